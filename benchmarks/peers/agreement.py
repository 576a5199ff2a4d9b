"""How far two label maps agree: Dice by label, on the same voxels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
SAME_PLACE_MM = 0.01


def dice(first: Array, second: Array) -> dict[int, float]:
    """Dice of every label above 0 that is in either map.

    Raises:
        ValueError: the maps have different shapes.
    """
    if first.shape != second.shape:
        raise ValueError(f"label maps of {first.shape} and {second.shape} voxels")
    count = int(max(first.max(initial=0), second.max(initial=0))) + 1
    both = np.bincount(first[first == second].ravel(), minlength=count)
    sizes = np.bincount(first.ravel(), minlength=count) + np.bincount(
        second.ravel(), minlength=count
    )
    return {k: float(2 * both[k] / sizes[k]) for k in range(1, count) if sizes[k]}


def mean_dice(first: Array, second: Array) -> float:
    """The mean over the labels of :func:`dice`; 1 if both are empty."""
    found = dice(first, second)
    return float(np.mean(list(found.values()))) if found else 1.0


def read_upright(path: Path) -> tuple[Array, Array]:
    """A label map in RAS storage order, whichever its file has, and its affine."""
    import nibabel as nib

    image: Any = nib.as_closest_canonical(nib.load(path))
    return np.asarray(image.dataobj).astype(np.uint8), np.asarray(image.affine)


def grid(path: Path) -> tuple[tuple[int, ...], Array]:
    """Shape and affine of an image in RAS storage order."""
    import nibabel as nib

    image: Any = nib.as_closest_canonical(nib.load(path))
    return image.shape, np.asarray(image.affine)


def same_grid(first: Array, second: Array) -> bool:
    """Whether two affines, mm, are the same but for rounding."""
    return bool(np.allclose(first, second, atol=SAME_PLACE_MM))
