"""Bundles in memory, known by the digest of their weights, whole or pruned to a level."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Final, TypeAlias

from nestseg.bundle.bundle import Bundle, load_bundle
from nestseg.bundle.options import SegmentOptions
from nestseg.label.work import WEIGHTS, Work
from nestseg.pruning.candidates import prunable_network, write_level
from nestseg_prep.errors import InputError

_KEPT: Final = 4
_Key: TypeAlias = tuple[Path, str, int | None]


def digest(bundle: Path) -> str:
    """SHA-256 of a bundle's weights. Times of files are no key: copies may share them.

    Raises:
        InputError: there are none.
    """
    try:
        return hashlib.sha256((bundle / WEIGHTS).read_bytes()).hexdigest()
    except FileNotFoundError:
        raise InputError(f"{bundle.name}: no weights yet; train the model first") from None


class Models:
    """Loaded bundles; a few are kept, and none outlives its weights.

    Args:
        work: where pruned bundles are written.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._loaded: OrderedDict[_Key, Bundle] = OrderedDict()

    def get(self, bundle: Path, level: int | None = None) -> Bundle:
        """A bundle with the weights that it has now.

        Args:
            bundle: its working copy.
            level: to which it is pruned; ``None`` for the whole of it.

        Raises:
            InputError: its weights are missing, damaged or those of another network.
        """
        now = digest(bundle)
        key = (bundle, now, level)
        if key not in self._loaded:
            self._loaded[key] = self._load(bundle, now, level)
            while len(self._loaded) > _KEPT:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(key)
        return self._loaded[key]

    def _load(self, bundle: Path, now: str, level: int | None) -> Bundle:
        if bundle.name in self._work.caged:
            return load_bundle(bundle, SegmentOptions(level=level), caged=True)
        whole_or_part = bundle if level is None else self._pruned(bundle, now, level)
        return load_bundle(whole_or_part, caged=False)

    def _pruned(self, bundle: Path, now: str, level: int) -> Path:
        folder = self._work.levels / now[:16] / f"{bundle.name}_L{level}"
        if folder.is_dir():
            return folder
        load_bundle(bundle, caged=False)  # foreign weights are refused here, with a clear line
        folder.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._work.levels) as unfinished:
            made = Path(unfinished) / folder.name
            write_level(bundle, prunable_network(bundle), level, made)
            try:
                os.rename(made, folder)  # noqa: PTH104  a race with another process ends here
            except OSError:
                if not folder.is_dir():
                    raise
        for old in self._work.levels.glob(f"*/{folder.name}"):
            if old != folder:  # of weights that a training has replaced
                shutil.rmtree(old, ignore_errors=True)
        return folder
