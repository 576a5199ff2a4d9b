"""What one segmentation computes besides the mask, as data: no torch."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from nestseg.runtime import choices
from nestseg.runtime.choices import Precision, Runtime
from nestseg_prep.errors import InputError, check_bool, check_number

Tta = Literal["none", "mirror"]
Level = int | Literal["auto"] | None


@dataclass(frozen=True)
class SegmentOptions:
    """How a bundle segments.

    Attributes:
        tta: test-time augmentation: ``"mirror"`` averages over mirrored copies of each tile.
        level: column of the head to stop at, of a UNet++ and its kin; ``None`` for the whole
            network. ``"auto"`` stands for what ``nestseg.pruning.level`` makes of it.
        ensemble: folders of further bundles; the result is the mean of all their probabilities.
        save_probabilities: whether probabilities are kept.
        save_uncertainty: whether the disagreement of each voxel is kept.
        precision: numbers that the network computes in, see ``nestseg.runtime``. Masks of bfloat16
            and int8 differ in a few voxels from those of float32.
        runtime: library that computes it; ``"auto"`` measures those that are installed.
        gentle: tiles of half the size, one at a time: for another attempt with less memory. The
            mask may change with it.

    Raises:
        InputError: an option has a value that it does not take; one line.
    """

    tta: Tta = "none"
    level: Level = None
    ensemble: tuple[Path, ...] = ()
    save_probabilities: bool = False
    save_uncertainty: bool = False
    precision: Precision = "fp32"
    runtime: Runtime = "auto"
    gentle: bool = False

    def __post_init__(self) -> None:
        if self.tta not in get_args(Tta):
            raise InputError(f"tta {self.tta!r}: give one of {', '.join(get_args(Tta))}")
        if self.level is not None and self.level != "auto":
            check_number("level", self.level, 1, whole=True)
        folders: Any = self.ensemble
        if type(folders) is not tuple or not all(isinstance(one, Path) for one in folders):
            raise InputError(f"ensemble {folders!r}: give a tuple of Path objects")
        for name in ("save_probabilities", "save_uncertainty", "gentle"):
            check_bool(name, getattr(self, name))
        choices.check(self.precision, self.runtime)

    def settings(self) -> dict[str, Any]:
        """What a digest of a run's settings holds of this, for ``json.dumps``.

        Without ``gentle``, which a run decides by itself, and without the ensemble: its bundles
        count by what is in them, as the first does.
        """
        kept = asdict(self)
        del kept["gentle"], kept["ensemble"]
        return kept


def read_level(text: str) -> Level:
    """``"L2"``, ``"2"`` or ``"auto"``, as a person types it.

    Raises:
        InputError: it is none of these.
    """
    if text.lower() == "auto":
        return "auto"
    match = re.fullmatch(r"[lL]?([1-9])", text)
    if not match:
        raise InputError(f"level {text!r}: give L1, L2, … or auto")
    return int(match[1])
