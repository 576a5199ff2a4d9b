"""A finished part of an image, and what parts of an image have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import EllipsisType

import torch
from torch import Tensor

from nestseg_prep.grid import Slices

Predictor = Callable[[Tensor], Tensor]
Place = tuple[EllipsisType | slice, ...]
_PIECE = 2**20  # values: what stays in a core's cache from the division to the argmax


@dataclass(frozen=True)
class Slab:
    """Finished values of a part of an image.

    Attributes:
        axis: spatial axis that the slab is cut across.
        start: its first voxel along that axis.
        values: ``(B, C, *spatial)``.
    """

    axis: int
    start: int
    values: Tensor

    @property
    def stop(self) -> int:
        """The voxel behind its last one along the axis."""
        return self.start + self.values.shape[2 + self.axis]

    @property
    def place(self) -> Place:
        """Index of the slab in an array ``(..., *spatial)``."""
        after = self.values.dim() - 3 - self.axis
        return (..., slice(self.start, self.stop), *[slice(None)] * after)


@dataclass(frozen=True)
class Tiling:
    """How an image is cut.

    Attributes:
        roi_size: spatial shape of a tile, in voxels; rounded down to what the network admits.
        overlap: of 'same' windows, as a fraction of the window.
        batch: tiles per forward pass, at most.
        background_at_most: a tile all of whose voxels are this or less holds background only;
            ``None``: nothing is known of the background.
        roi_size_max: of 'same' windows: up to which a window may grow; ``None``: it does not.
    """

    roi_size: tuple[int, ...]
    overlap: float
    batch: int
    background_at_most: float | None = None
    roi_size_max: tuple[int, ...] | None = None


def joined(parts: Iterator[Slab]) -> Tensor:
    """All slabs of an image, ``(B, C, *spatial)``."""
    found = list(parts)
    return torch.cat([slab.values for slab in found], dim=2 + found[0].axis)


def longest(shape: Sequence[int]) -> int:
    """The spatial axis across which slabs are smallest."""
    return max(range(len(shape)), key=lambda axis: shape[axis])


def pieces(low: int, high: int, plane: int) -> Iterator[tuple[int, int]]:
    """``low..high`` in parts of a few planes of ``plane`` values each."""
    step = max(1, _PIECE // max(1, plane))
    for start in range(low, high, step):
        yield start, min(start + step, high)


def plane_values(values: Tensor, axis: int) -> int:
    """Number of values in one plane across a spatial axis."""
    return math.prod(values.shape) // max(1, values.shape[2 + axis])


def moved(place: Slices, by: Sequence[int]) -> Slices:
    """A place as seen from a voxel ``by``."""
    return tuple(slice(s.start - b, s.stop - b) for s, b in zip(place, by, strict=True))


def inner(spatial: Slices) -> Place:
    """Index of a place in an array ``(..., *spatial)``."""
    return (..., *spatial)


def across(box: Slices, axis: int) -> Place:
    """Index of the planes of a box in planes of an array ``(..., *spatial)`` across an axis."""
    return inner(tuple(slice(None) if k == axis else s for k, s in enumerate(box)))


def move_on(buffer: Tensor, dim: int, by: int) -> None:
    """Move what lies behind ``by`` to the front, and fill the rest with zeros."""
    kept = buffer.shape[dim] - by
    for first in range(0, kept, by):
        count = min(by, kept - first)  # what is read lies behind what is written
        buffer.narrow(dim, first, count).copy_(buffer.narrow(dim, first + by, count))
    buffer.narrow(dim, kept, by).zero_()
