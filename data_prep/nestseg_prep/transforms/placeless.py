"""What the random end of a training pipeline needs of an image: often no metadata, and a part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from monai import transforms as mt
from monai.data.meta_obj import get_track_meta, set_track_meta

from nestseg_prep.transforms.deform import RandGridDeformd
from nestseg_prep.transforms.patches import CropToOutputd, RandBalancedPatchesd
from nestseg_prep.transforms.synthesis import RandImageFromLabelsd
from nestseg_prep.transforms.weight import BorderWeightd

_INDIFFERENT: Final = frozenset(
    {
        BorderWeightd,
        CropToOutputd,
        RandBalancedPatchesd,
        RandGridDeformd,
        RandImageFromLabelsd,
        mt.DeleteItemsd,
        mt.EnsureTyped,
        mt.RandAdjustContrastd,
        mt.RandAffined,
        mt.RandBiasFieldd,
        mt.RandCropByLabelClassesd,
        mt.RandFlipd,
        mt.RandGaussianNoised,
        mt.RandGaussianSmoothd,
        mt.RandRotate90d,
        mt.RandScaleIntensityd,
        mt.RandShiftIntensityd,
        mt.RandSimulateLowResolutiond,
        mt.RandSpatialCropd,
    }
)
"""Transforms that put out the same voxels with and without an affine."""
_CUTTING: Final = frozenset(
    {
        RandBalancedPatchesd,
        RandImageFromLabelsd,
        mt.RandCropByLabelClassesd,
        mt.RandSpatialCropd,
    }
)
"""Transforms that put out parts of their images and write into none."""


def placeless_keys(steps: Sequence[Any]) -> frozenset[str]:
    """Keys whose images may go through the end of a pipeline as plain tensors.

    Args:
        steps: the random transform that comes first, and all behind it.

    Returns:
        Those whose metadata are dropped on the way anyway, if no step looks at them; none, if one
        might.
    """
    if not all(type(step) in _INDIFFERENT for step in steps):
        return frozenset()
    typed = [step for step in steps if isinstance(step, mt.EnsureTyped)]
    if any(step.converter.track_meta for step in typed):
        return frozenset()
    return frozenset(str(key) for step in typed for key in step.keys)


def cuts_patches(steps: Sequence[Any]) -> bool:
    """Whether the first step cuts patches out of images that it leaves as they are."""
    return bool(steps) and type(steps[0]) in _CUTTING


@contextmanager
def without_metadata() -> Iterator[None]:
    """MONAI's transforms leave plain tensors plain; else they give each an affine of its own."""
    tracked = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(tracked)
