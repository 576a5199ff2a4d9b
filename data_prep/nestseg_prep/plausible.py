"""What the voxels of an image say against it, where its header says nothing. Pure."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from nestseg_prep.dicom.findings import Code, Finding
from nestseg_prep.dicom.references import SeriesRef
from nestseg_prep.volume import Volume

Array: TypeAlias = npt.NDArray[Any]

# Enough to see where values lie, and a few milliseconds.
_VOXELS_LOOKED_AT: Final = 200_000
# HU of muscle, water, fat and organs: every part of a body has some.
_SOFT: Final = (-200.0, 200.0)
_LEAST_SOFT: Final = 0.01
# Where soft tissue stands if the offset of 1000 or 1024 HU was not subtracted.
_OFFSET_LOST: Final = (800.0, 1300.0)
_LEAST_OFFSET_LOST: Final = 0.1
_MOST_LABELS: Final = 32
_HIGHEST_LABEL: Final = 1000


def doubts(image: Volume, ref: SeriesRef) -> list[Finding]:
    """What a person should look at in an image that was read.

    Args:
        image: as it was read.
        ref: the series; a quantity that its header names is not held against Hounsfield units.
    """
    values = _sample(image.image)
    found = []
    if ref.modality == "CT" and not ref.quantity and not _may_be_hounsfield(values):
        found.append(Finding(Code.IMPLAUSIBLE_HOUNSFIELD, _ends(values)))
    if ref.kind == "nifti" and _looks_like_labels(values):
        found.append(Finding(Code.LABEL_LIKE, f"{len(np.unique(values))} values"))
    return found


def _sample(array: Array) -> Array:
    """Voxels at equal distances, of all planes."""
    step = max(1, round((array.size / _VOXELS_LOOKED_AT) ** (1 / 3)))
    return array[::step, ::step, ::step].ravel()


def _may_be_hounsfield(values: Array) -> bool:
    """Whether there is soft tissue where it has to be, and not an offset above."""
    if values.min() >= 0:  # in Hounsfield units noise alone goes below
        return False
    soft = np.mean((values >= _SOFT[0]) & (values <= _SOFT[1]))
    shifted = np.mean((values >= _OFFSET_LOST[0]) & (values <= _OFFSET_LOST[1]))
    no_air = np.mean(values < _SOFT[0]) < _LEAST_SOFT
    return bool(soft >= _LEAST_SOFT and not (no_air and shifted >= _LEAST_OFFSET_LOST))


def _ends(values: Array) -> str:
    low, middle, high = np.percentile(values, [1, 50, 99])
    return f"from {low:.0f} to {high:.0f}, half below {middle:.0f}"


def _looks_like_labels(values: Array) -> bool:
    if values.min() < 0 or values.max() > _HIGHEST_LABEL:
        return False
    different = np.unique(values)
    return len(different) <= _MOST_LABELS and bool((different == np.round(different)).all())
