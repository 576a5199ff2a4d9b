"""Voxels without image: what scanners put where they saw nothing. Arithmetic only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from nestseg_prep.errors import InputError

_NONFINITE_LIMIT: Final = 1e-3

Array: TypeAlias = npt.NDArray[Any]
Range: TypeAlias = tuple[float, float]


def finite(array: Array) -> Array:
    """Gives voxels that are NaN or infinite the lowest finite value.

    Args:
        array: of any shape; integers are finite.

    Returns:
        The same array if nothing had to be changed, otherwise a changed copy.

    Raises:
        InputError: more than 0.1 % of the voxels are not finite.
    """
    if array.dtype.kind != "f":
        return array
    known = np.isfinite(array)
    bad = array.size - int(np.count_nonzero(known))
    if bad > _NONFINITE_LIMIT * array.size:
        msg = f"{bad} of {array.size} voxels are NaN or infinite; export it again"
        raise InputError(msg)
    return np.where(known, array, array[known].min()) if bad else array


def without_fill(array: Array, ranges: Sequence[Range | None]) -> Array:
    """Gives voxels without image the lowest value of the others.

    A range that lies among the values of the image itself is an error of its header, and is left
    alone: water would turn into air.

    Args:
        array: ``(i, j, k)``.
        ranges: lowest and highest fill value of each plane ``k``; empty if there is none.

    Returns:
        The same array if nothing had to be changed, otherwise a changed copy.
    """
    masks = {
        k: mask
        for k, ends in enumerate(ranges)
        if ends is not None and (mask := _within(array[:, :, k], ends)).any()
    }
    if not masks:
        return array
    kept = [
        array[:, :, k][~masks[k]] if k in masks else array[:, :, k] for k in range(array.shape[2])
    ]
    lowest = min((values.min() for values in kept if values.size), default=None)
    highest = max((values.max() for values in kept if values.size), default=None)
    if lowest is None or highest is None:
        return array
    filled = array.copy(order="K")
    for k, mask in masks.items():
        low, high = ranges[k] or (0.0, 0.0)
        if high <= lowest or low >= highest:
            filled[:, :, k][mask] = lowest
    return filled


def _within(plane: Array, ends: Range) -> npt.NDArray[np.bool_]:
    return np.asarray((plane >= ends[0]) & (plane <= ends[1]))
