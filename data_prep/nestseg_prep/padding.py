"""Mirror padding of any width, and its exact inverse.

Ronneberger et al. 2015 extrapolate the border "by mirroring the input image": reflection without
repeating the edge voxel. ``torch.nn.functional.pad`` (and with it MONAI's ``BorderPad``) refuses a
padding as wide as the image; hospital crops are often narrower than a network's margin, so
reflection is repeated here, as ``numpy.pad(mode="reflect")`` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt


def mirror_index(size: int, before: int, after: int) -> npt.NDArray[np.intp]:
    """Source index of each voxel of an axis of ``size`` voxels that is mirrored beyond both ends.

    Args:
        size: voxels along the axis, at least 1.
        before: voxels to add at the front, at least 0.
        after: voxels to add at the end, at least 0.

    Returns:
        ``(before + size + after,)`` indices into the axis; works for arrays and tensors alike.
    """
    if size < 1 or before < 0 or after < 0:
        raise ValueError(f"cannot mirror {size} voxels by ({before}, {after})")
    index = np.arange(-before, size + after)
    if size == 1:
        return np.zeros_like(index)
    turn = 2 * (size - 1)  # one bounce there and back
    index = np.abs(index) % turn
    return np.where(index < size, index, turn - index)


def mirror_pad(
    array: npt.NDArray[np.generic], padding: Sequence[tuple[int, int]]
) -> npt.NDArray[np.generic]:
    """Mirror the last ``len(padding)`` axes of ``array``; axes before them are left alone.

    Args:
        array: ``(..., *spatial)``, any dtype.
        padding: voxels ``(before, after)`` per spatial axis.
    """
    first = array.ndim - len(padding)
    for axis, (before, after) in enumerate(padding, start=first):
        if before or after:
            array = np.take(array, mirror_index(array.shape[axis], before, after), axis=axis)
    return array


class Sliceable(Protocol):
    """An array or a tensor."""

    @property
    def ndim(self) -> int: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    def __getitem__(self, key: Any, /) -> Any: ...


Array = TypeVar("Array", bound=Sliceable)


def unpad(array: Array, padding: Sequence[tuple[int, int]]) -> Array:
    """Undo :func:`mirror_pad`: a view of ``array`` (or tensor) without the padding."""
    spatial = array.shape[array.ndim - len(padding) :]
    inner = tuple(slice(b, n - a) for n, (b, a) in zip(spatial, padding, strict=True))
    out: Array = array[(..., *inner)]
    return out


def symmetric_padding(shape: Sequence[int], at_least: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Padding ``(before, after)`` that centres ``shape`` in ``at_least``; 0 where it is larger."""
    missing = [max(0, want - have) for have, want in zip(shape, at_least, strict=True)]
    return tuple((m // 2, m - m // 2) for m in missing)
