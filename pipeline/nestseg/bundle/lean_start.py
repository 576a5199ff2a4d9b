"""MONAI, imported without what a process that only segments never uses.

``import monai`` takes whatever optional package it finds: plots, tables, logs of trainings, and
through ignite torch's distributed optimizers with a computer algebra system. All of it together
costs more time than torch itself. To MONAI each of them is optional, so it may as well be told
that they are not there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

LEFT_OUT: Final = (
    "ignite",
    "matplotlib",
    "mlflow",
    "pandas",
    "scipy.signal",
    "skimage",
    "sklearn",
    "tensorboard",
    "tensorboardX",
)
"""Packages that MONAI does not find; whoever imports them later does."""


class _Absent(MetaPathFinder):
    """Answers for packages as if they were not installed."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name in LEFT_OUT:
            raise ModuleNotFoundError(f"{name} is left out of a lean start", name=name)
        return None


def import_monai() -> None:
    """Import MONAI, the packages ``LEFT_OUT`` aside; for a process that does nothing but segment.

    MONAI's engines, handlers and tables, and what it does by scikit-image (connected components,
    say), do not work in this process from now on. What was imported before stays as it is.
    """
    absent = _Absent()
    sys.meta_path.insert(0, absent)
    try:
        import monai.bundle  # noqa: F401, PLC0415  the function is there for this import
    finally:
        sys.meta_path.remove(absent)
