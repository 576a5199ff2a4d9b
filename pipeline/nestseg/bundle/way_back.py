"""From the grid that a network saw back to the voxels of its image."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from monai.data.meta_tensor import MetaTensor
from monai.transforms import AsDiscreted, Compose, CopyItemsd, Invertd

from nestseg.inferers import OverlapTileInferer
from nestseg_prep.affine import corner_distance
from nestseg_prep.errors import InputError
from nestseg_prep.regrid import Regrid
from nestseg_prep.volume import Volume

_SAME_PLACE_MM = 1e-3
_PLACED_BY_AFFINE = frozenset({"Orientation", "SpatialResample", "SlabResample", "SpatialPad"})
"""Transforms that move voxels as the affine says, and that no voxel of the image is lost in."""

LABELS_BY_NEAREST: Final = (
    "labels went back to the image by the nearest voxel: the bundle would interpolate between "
    "label numbers"
)

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class WayBack:
    """How a bundle goes from logits to labels on the voxels of the image.

    Attributes:
        invert: the inversion of its preprocessing.
        of_logits: whether it inverts the logits, linearly, and then takes the argmax; otherwise the
            labels, to the nearest voxel.
    """

    invert: Invertd
    of_logits: bool


def inversion(inferer: Any, postprocessing: Compose) -> WayBack | None:
    """The way back of a bundle that stitches, takes the argmax and goes back, and no more."""
    steps = [s for s in postprocessing.transforms if not isinstance(s, CopyItemsd)]
    if not isinstance(inferer, OverlapTileInferer) or len(steps) != 2:
        return None
    of_logits = isinstance(steps[0], Invertd)
    invert, argmax = steps if of_logits else reversed(steps)
    if not isinstance(invert, Invertd) or not _is_argmax(argmax):
        return None
    if any(nearest == of_logits for nearest in invert.nearest_interp):
        return None
    return WayBack(invert, of_logits)


def _is_argmax(step: Any) -> bool:
    return isinstance(step, AsDiscreted) and (
        step.argmax,
        step.to_onehot,
        step.threshold,
        step.rounding,
    ) == ((True,), [None], [None], (None,))


def regrid(image: MetaTensor, volume: Volume) -> Regrid | None:
    """The way back from a preprocessed image, if its affine says it all.

    What MONAI's ``Invertd`` gives with ``nearest_interp``, without its memory.

    Args:
        image: ``(C, i, j, k)``, preprocessed.
        volume: what it was made of.

    Returns:
        ``None`` if a transform did what an affine does not tell, or leaves a margin empty.
    """
    for step in image.applied_operations:
        border = step.get("extra_info", {}).get("padding_mode", "border") == "border"
        if step["class"] not in _PLACED_BY_AFFINE or not border:
            return None
    return Regrid.between(image.affine.numpy(), image.shape[1:], volume.affine, volume.shape)


def inverted(labels: Array, data: Mapping[Any, Any], invert: Invertd, volume: Volume) -> Array:
    """Take a map back to the voxels of the image by the inverse of each transform.

    Each voxel takes the value of the nearest one, whatever the bundle says: values between two
    label numbers are other labels.

    Args:
        labels: ``(i, j, k)`` on the network's grid.
        data: the preprocessed image under ``"image"``.
        invert: of the bundle's postprocessing.
        volume: what the image was made of.

    Raises:
        RuntimeError: the map came back on another grid than the image's.
    """
    nearest = copy.copy(invert)
    nearest.nearest_interp = (True,) * len(invert.keys)
    found = nearest({**data, "pred": MetaTensor(np.asarray(labels, np.float32)[None])})["pred"]
    return on_source_grid(found, volume, labels.dtype)


def send_labels_by_nearest(postprocessing: Any) -> bool:
    """Make a bundle's postprocessing take labels back by the nearest voxel.

    ``Invertd`` with ``nearest_interp=False`` is right for logits. Behind a step that made labels of
    them it would interpolate between label numbers, and storing them as integers would round down.

    Args:
        postprocessing: a ``Compose``, whose steps are changed in place; anything else stays as it
            is.

    Returns:
        Whether any step was changed.
    """
    labels: set[Any] = set()
    changed = False
    if not isinstance(postprocessing, Compose):
        return False
    flat: Any = postprocessing
    for step in flat.flatten().transforms:
        if isinstance(step, AsDiscreted):
            labels.update(_label_keys(step))
        elif isinstance(step, Invertd):
            wanted = tuple(
                nearest or key in labels
                for key, nearest in zip(step.keys, step.nearest_interp, strict=True)
            )
            changed |= wanted != tuple(step.nearest_interp)
            step.nearest_interp = wanted
    return changed


def _label_keys(step: AsDiscreted) -> Iterator[Any]:
    """Keys whose logits become label numbers; one-hot maps may be interpolated."""
    for key, argmax, threshold, rounding, to_onehot in zip(
        step.keys, step.argmax, step.threshold, step.rounding, step.to_onehot, strict=True
    ):
        if to_onehot is None and (argmax or rounding or threshold is not None):
            yield key


def on_source_grid(mask: MetaTensor, volume: Volume, kind: npt.DTypeLike) -> Array:
    """The array of a mask ``(1, i, j, k)`` that lies on the voxels of a volume.

    Raises:
        RuntimeError: it does not.
        InputError: it holds something else than labels: they were interpolated, or never made.
    """
    values = np.asarray(mask[0].cpu())
    array = values.astype(kind)
    if not np.array_equal(array, values):
        raise InputError(
            "the bundle's postprocessing gives values that are not labels (whole numbers from 0 to "
            f"{np.iinfo(kind).max}); set nearest_interp of its Invertd to true"
        )
    if (
        array.shape != volume.shape
        or corner_distance(mask.affine, volume.affine, volume.shape) > _SAME_PLACE_MM
    ):
        raise RuntimeError(
            f"the mask came back on a grid of {array.shape}, the image has {volume.shape}"
        )
    return array
