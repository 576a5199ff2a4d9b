"""Packages that a bundle needs: which are missing, and the command that installs them."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from typing import Any, Final

_DISTRIBUTIONS: Final = {
    "PIL": "pillow",
    "SimpleITK": "simpleitk",
    "cv2": "opencv-python",
    "ignite": "pytorch-ignite",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Module → package, where the names differ."""

_LISTS: Final = ("required_packages_version", "optional_packages_version")
"""Of the metadata; the second is the older name of the first."""


def missing(error: BaseException, metadata: dict[str, Any]) -> str:
    """What to install after an error, in words; ``""`` if the error is not a missing package.

    Args:
        error: that building or running a bundle's code raised.
        metadata: of the bundle.
    """
    if not isinstance(error, ImportError):
        return ""
    found = re.search(r"No module named '([\w.]+)'", str(error))
    module = (error.name or (found[1] if found else "")).partition(".")[0]
    if not module:
        return ""
    if module == "scripts":
        return f"{error}; the bundle lacks that file"
    package = _DISTRIBUTIONS.get(module, module)
    required = (name for name, _, here in _listed(metadata, _LISTS[:1]) if not here)
    absent = dict.fromkeys((package, *required))
    wanted = {name: version for name, version, _ in _listed(metadata)}
    words = (f"'{name}>={wanted[name]}'" if name in wanted else name for name in absent)
    return f"the package {package} is not installed; `pip install {' '.join(words)}`"


def outdated(metadata: dict[str, Any]) -> list[str]:
    """One sentence for each required package that is absent, or older than the metadata ask for."""
    return [
        f"asks for {name} {version}; " + (f"{here} is installed" if here else "it is not installed")
        for name, version, here in _listed(metadata, _LISTS[:1])
        if not here or _older(here, version)
    ]


def _listed(
    metadata: dict[str, Any], lists: tuple[str, ...] = _LISTS
) -> Iterator[tuple[str, str, str]]:
    """Each package that the metadata list, its version, and the one that is here or ``""``."""
    for key in lists:
        listed = metadata.get(key)
        for name, version in (listed if isinstance(listed, dict) else {}).items():
            # Both end up in a command that people copy.
            if re.fullmatch(r"[\w.-]{1,60}", str(name)) and re.fullmatch(
                r"[\w.+]{1,30}", str(version)
            ):
                try:
                    here = importlib.metadata.version(str(name))
                except importlib.metadata.PackageNotFoundError:
                    here = ""
                yield str(name).lower(), str(version), here


def _older(here: str, wanted: str) -> bool:
    return _numbers(here) < _numbers(wanted)


def _numbers(version: str) -> list[int]:
    """The numbers that a version begins with."""
    return [int(one) for one in re.findall(r"\d+", re.match(r"[\d.]*", version)[0])]  # type: ignore[index]  # matches ""
