"""An image computed tile by tile and handed over slab by slab, each as soon as it is finished.

A slab is final: no later tile touches it. Who wants labels takes the argmax of each slab and never
holds the logits of a whole volume, which is 9 GB for six classes of 512 × 512 × 1400 voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from types import EllipsisType

import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from torch import Tensor

from nestseg_prep.geometry import Geometry
from nestseg_prep.grid import Slices, tile_grid
from nestseg_prep.padding import symmetric_padding, unpad
from nestseg_prep.transforms import mirror_pad_tensor

Predictor = Callable[[Tensor], Tensor]
_SIGMA = 0.125  # of the Gaussian, in windows; MONAI's default


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
    def place(self) -> tuple[EllipsisType | slice, ...]:
        """Index of the slab in an array ``(..., *spatial)``."""
        after = self.values.dim() - 3 - self.axis
        stop = self.start + self.values.shape[2 + self.axis]
        return (..., slice(self.start, stop), *[slice(None)] * after)


@dataclass(frozen=True)
class Tiling:
    """How an image is cut.

    Attributes:
        roi_size: spatial shape of a tile, in voxels; rounded down to what the network admits.
        overlap: of 'same' windows, as a fraction of the window.
        batch: tiles per forward pass.
    """

    roi_size: tuple[int, ...]
    overlap: float
    batch: int


def slabs(image: Tensor, predict: Predictor, geometry: Geometry, tiling: Tiling) -> Iterator[Slab]:
    """The finished slabs of an image in rising order; together they are the whole of it.

    Args:
        image: ``(B, channels, *spatial)``. A 2D network takes a volume slice by slice.
        predict: a tile → ``(B, C, *spatial)`` of what the geometry says.
        geometry: of the network.
        tiling: how the image is cut.
    """
    if image.dim() == len(geometry.axes) + 3:
        last = len(geometry.axes)
        for k, one in enumerate(image.unbind(-1)):
            yield Slab(last, k, joined(slabs(one, predict, geometry, tiling)).unsqueeze(-1))
    elif geometry.is_valid:
        yield from _tiles(image, predict, geometry, tiling)
    else:
        yield from _windows(image, predict, geometry, tiling)


def joined(parts: Iterator[Slab]) -> Tensor:
    """All slabs of an image, ``(B, C, *spatial)``."""
    found = list(parts)
    return torch.cat([slab.values for slab in found], dim=2 + found[0].axis)


def _tiles(image: Tensor, predict: Predictor, geometry: Geometry, tiling: Tiling) -> Iterator[Slab]:
    """Tiles of a valid network, which write each voxel once."""
    grid = tile_grid(geometry, image.shape[2:], geometry.input_within(tiling.roi_size))
    padded = mirror_pad_tensor(image, grid.padding)
    axis = _longest(image)
    by_place = sorted(grid.tiles, key=lambda tile: tile.write[axis].start)
    for start, group in groupby(by_place, key=lambda tile: tile.write[axis].start):
        tiles = list(group)
        values = image.new_empty(0)
        for first in range(0, len(tiles), tiling.batch):
            some = tiles[first : first + tiling.batch]
            parts = predict(torch.cat([padded[_inner(tile.read)] for tile in some]))
            if not first:  # only now the channels are known
                shape = list(grid.shape)
                shape[axis] = tiles[0].write[axis].stop - start
                values = parts.new_empty((len(image), parts.shape[1], *shape))
            for tile, part in zip(some, parts.chunk(len(some)), strict=True):
                values[_inner(_moved(tile.write, axis, -start))] = part[_inner(tile.keep)]
        yield Slab(axis, start, values)


def _windows(
    image: Tensor, predict: Predictor, geometry: Geometry, tiling: Tiling
) -> Iterator[Slab]:
    """Windows of a 'same' network, blended by Gaussian weights as MONAI's sliding window does."""
    shape, axis = tuple(image.shape[2:]), _longest(image)
    admissible = geometry.input_size(shape)
    padding = symmetric_padding(shape, admissible)
    padded = mirror_pad_tensor(image, padding)
    window = tuple(map(min, geometry.input_within(tiling.roi_size), admissible))
    weights = compute_importance_map(
        window, mode="gaussian", sigma_scale=_SIGMA, device=image.device, dtype=image.dtype
    )
    steps = [
        n if n == whole else max(1, int(n * (1 - tiling.overlap)))
        for n, whole in zip(window, admissible, strict=True)
    ]
    places: list[Slices] = dense_patch_slices(admissible, window, steps)
    starts = sorted({place[axis].start for place in places})
    size = list(admissible)
    size[axis] = window[axis]
    total, weight = image.new_empty(0), image.new_zeros((1, 1, *size))
    inside = (padding[axis][0], padding[axis][0] + shape[axis])
    others = [(0, 0) if k == axis else ends for k, ends in enumerate(padding)]
    for start, after in zip(starts, [*starts[1:], admissible[axis]], strict=True):
        group = [place for place in places if place[axis].start == start]
        for first in range(0, len(group), tiling.batch):
            some = group[first : first + tiling.batch]
            parts = predict(torch.cat([padded[_inner(place)] for place in some]))
            if not total.numel():  # only now the channels are known
                total = image.new_zeros((len(image), parts.shape[1], *size))
            for place, part in zip(some, parts.chunk(len(some)), strict=True):
                here = _inner(_moved(place, axis, -start))
                total[here] += part * weights
                weight[here] += weights
        done = min(after - start, window[axis])
        values = total.narrow(2 + axis, 0, done) / weight.narrow(2 + axis, 0, done)
        low, high = max(start, inside[0]), min(start + done, inside[1])
        if low < high:
            kept = values.narrow(2 + axis, low - start, high - low)
            yield Slab(axis, low - inside[0], unpad(kept, others))
        total, weight = (_shifted(buffer, 2 + axis, done) for buffer in (total, weight))


def _longest(image: Tensor) -> int:
    """The spatial axis across which slabs are smallest."""
    shape = image.shape[2:]
    return max(range(len(shape)), key=lambda axis: shape[axis])


def _shifted(buffer: Tensor, dim: int, by: int) -> Tensor:
    """A buffer moved on: what was behind ``by`` comes first, and zeros come after."""
    kept = buffer.shape[dim] - by
    moved = torch.zeros_like(buffer)
    moved.narrow(dim, 0, kept).copy_(buffer.narrow(dim, by, kept))
    return moved


def _moved(place: Slices, axis: int, by: int) -> Slices:
    there = slice(place[axis].start + by, place[axis].stop + by)
    return (*place[:axis], there, *place[axis + 1 :])


def _inner(spatial: Slices) -> tuple[EllipsisType | slice, ...]:
    return (..., *spatial)
