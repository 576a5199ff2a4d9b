"""A volume on a coarser grid: whole steps, so that every coarse voxel knows its source voxels."""

from __future__ import annotations

from math import prod

import numpy as np
import numpy.typing as npt

MOST_VOXELS = 96**3


def steps(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], most: int = MOST_VOXELS
) -> tuple[int, int, int]:
    """Source voxels for one coarse voxel along each axis, so that at most ``most`` remain.

    The finest axis is made coarser first: thick slices stay as they are.
    """
    taken = [1, 1, 1]
    while prod(_coarse_shape(shape, taken)) > most:
        axis = min(
            (a for a in range(3) if taken[a] < shape[a]), key=lambda a: spacing[a] * taken[a]
        )
        taken[axis] += 1
    i, j, k = taken
    return i, j, k


def affine(source: npt.NDArray[np.float64], step: tuple[int, int, int]) -> npt.NDArray[np.float64]:
    """The affine of the coarse grid: its voxels have the centre of the block that they stand for.

    Args:
        source: ``(4, 4)`` of the fine grid.
        step: what :func:`steps` gave.
    """
    scale = np.diag([*map(float, step), 1.0])
    scale[:3, 3] = (np.array(step) - 1) / 2
    return source @ scale


def means(array: npt.NDArray[np.generic], step: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    """The mean of each block, slab by slab, so that no second copy of ``array`` is made.

    Args:
        array: ``(i, j, k)``; the blocks at its far ends may be smaller.
        step: what :func:`steps` gave.
    """
    shape = _coarse_shape(array.shape, step)
    made = np.empty(shape, np.float32)
    starts = [np.arange(0, size, one) for size, one in zip(array.shape, step, strict=True)]
    for k, first in enumerate(starts[2]):
        slab = array[:, :, first : first + step[2]].mean(axis=2, dtype=np.float32)
        sums = np.add.reduceat(np.add.reduceat(slab, starts[0], axis=0), starts[1], axis=1)
        made[:, :, k] = sums
    counts = [
        np.diff([*first, size]).astype(np.float32)
        for first, size in zip(starts[:2], array.shape[:2], strict=True)
    ]
    return made / (counts[0][:, None, None] * counts[1][None, :, None])


def labels(
    mask: npt.NDArray[np.generic], step: tuple[int, int, int], values: list[int]
) -> npt.NDArray[np.uint8]:
    """The label in the middle of each block, as its place in ``values`` from 1; 0 elsewhere.

    A label that stands in the middle of no block is set wherever it occurs: a structure too small
    for the coarse grid must not vanish from it.

    Args:
        mask: ``(i, j, k)`` label map.
        step: what :func:`steps` gave.
        values: at most 255.
    """
    picks = [
        np.minimum(np.arange(0, size, one) + one // 2, size - 1)
        for size, one in zip(mask.shape, step, strict=True)
    ]
    middles = mask[np.ix_(*picks)]
    made = np.zeros(middles.shape, np.uint8)
    for place, value in enumerate(values, start=1):
        made[middles == value] = place
    for place, value in enumerate(values, start=1):
        if place not in made:
            where = np.argwhere(mask == value)
            made[tuple((where // np.array(step)).T)] = place
    return made


def _coarse_shape(shape: tuple[int, ...], step: tuple[int, ...] | list[int]) -> tuple[int, ...]:
    return tuple(-(-size // one) for size, one in zip(shape, step, strict=True))
