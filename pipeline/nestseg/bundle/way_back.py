"""From the grid that a network saw back to the voxels of its image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Invertd

from nestseg_prep.affine import corner_distance
from nestseg_prep.regrid import Regrid
from nestseg_prep.volume import Volume

_SAME_PLACE_MM = 1e-3
_PLACED_BY_AFFINE = frozenset({"Orientation", "SpatialResample", "SlabResample", "SpatialPad"})
"""Transforms that move voxels as the affine says, and that no voxel of the image is lost in."""

Array = npt.NDArray[Any]


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
    """A map on the voxels of the image, by the inverse of each transform.

    Args:
        labels: ``(i, j, k)`` on the network's grid.
        data: the preprocessed image under ``"image"``.
        invert: of the bundle's postprocessing.
        volume: what the image was made of.

    Raises:
        RuntimeError: the map came back on another grid than the image's.
    """
    found = invert({**data, "pred": MetaTensor(np.asarray(labels, np.float32)[None])})["pred"]
    return on_source_grid(found, volume, labels.dtype)


def on_source_grid(mask: MetaTensor, volume: Volume, kind: npt.DTypeLike) -> Array:
    """The array of a mask ``(1, i, j, k)`` that lies on the voxels of a volume.

    Raises:
        RuntimeError: it does not.
    """
    array = np.asarray(mask[0].cpu(), dtype=kind)
    if (
        array.shape != volume.shape
        or corner_distance(mask.affine, volume.affine, volume.shape) > _SAME_PLACE_MM
    ):
        raise RuntimeError(
            f"the mask came back on a grid of {array.shape}, the image has {volume.shape}"
        )
    return array
