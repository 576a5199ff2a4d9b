"""Tiles that cover an image exactly: which voxels to read and which to write.

The law of the overlap-tile strategy: the stitched result equals one pass over the whole image iff
every tile starts at a multiple of the network's period, because pooling is only equivariant under
such shifts. The stride of the 2015 paper's own tiling (388 at depth 4, period 16) breaks it; 384
keeps it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from nestseg_prep.geometry import AxisGeometry, Geometry

Slices = tuple[slice, ...]


@dataclass(frozen=True)
class Tile:
    """One tile of the grid; slices run over the spatial axes.

    Attributes:
        read: of the padded image, what goes into the network.
        keep: of the network's output, what is used.
        write: of the source image's grid, where that belongs.
    """

    read: Slices
    keep: Slices
    write: Slices


@dataclass(frozen=True)
class TileGrid:
    """Tiles that write every voxel of an image, or of a box in it, exactly once.

    Attributes:
        shape: spatial shape of the source image.
        tile: spatial shape of the network's input, the same for every tile.
        padding: voxels to add ``(before, after)`` per axis before reading.
        tiles: the tiles, last axis fastest.
        box: what they write of the image.
    """

    shape: tuple[int, ...]
    tile: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    tiles: tuple[Tile, ...]
    box: Slices


def aligned_stride(axis: AxisGeometry, tile: int) -> int:
    """The longest step that keeps tiles of ``tile`` input voxels gapless and in phase."""
    covered = axis.output_size(tile)
    stride = covered - covered % axis.period
    if not stride:
        raise ValueError(
            f"a tile of {tile} voxels yields {covered}, less than the network's period "
            f"{axis.period}; the smallest tile that can be laid is {axis.input_size(axis.period)}"
        )
    return stride


def _starts(axis: AxisGeometry, size: int, tile: int, box: slice) -> range:
    """Where tiles begin that cover a box, itself begun at a multiple of the period."""
    reach = axis.output_size(tile)
    if reach >= box.stop - box.start:
        spare = max(0, size - reach)  # behind it, a tile would read more padding than it must
        start = min(box.start, spare + -spare % axis.period)
        return range(start, start + 1)
    return range(box.start, box.stop, aligned_stride(axis, tile))


def _axis_tiles(
    axis: AxisGeometry, size: int, tile: int, box: slice
) -> Iterator[tuple[slice, slice, slice]]:
    written = box.start
    for start in _starts(axis, size, tile, box):
        stop = min(start + axis.output_size(tile), box.stop)
        if stop <= written:  # the tile before reaches the end already
            break
        keep = slice(written - start, stop - start)
        yield slice(start, start + tile), keep, slice(written, stop)
        written = stop


def tile_grid(
    geometry: Geometry, shape: Sequence[int], tile: Sequence[int], covered: Slices | None = None
) -> TileGrid:
    """Cover an image of spatial ``shape`` by tiles of input shape ``tile``.

    Along an axis where the image is smaller than the tile's output, the tile shrinks to the
    smallest admissible one that covers the image.

    Args:
        geometry: of the network.
        shape: spatial shape of the image, in voxels.
        tile: the network's input shape; must be admissible.
        covered: the part of the image to cover, the whole by default. It is made to begin at a
            multiple of the period, so that tiles give what they give of the whole image. The shape
            of the tiles does not depend on it.

    Raises:
        ValueError: ``tile`` is not admissible, or too small to step by the network's period; the
            image has no voxels.
    """
    if min(shape) < 1:
        raise ValueError(f"an image of shape {tuple(shape)} has no voxels")
    geometry.output_size(tile)
    fitted = tuple(min(t, n) for t, n in zip(tile, geometry.input_size(shape), strict=True))
    box = tuple(
        slice(part.start - part.start % axis.period, part.stop)
        for axis, part in zip(geometry.axes, covered or [slice(0, n) for n in shape], strict=True)
    )
    per_axis = [
        list(_axis_tiles(axis, n, t, part))
        for axis, n, t, part in zip(geometry.axes, shape, fitted, box, strict=True)
    ]
    tiles = tuple(
        Tile(*(tuple(part) for part in zip(*along, strict=True))) for along in product(*per_axis)
    )
    padding = tuple(
        (axis.margin // 2, max(0, along[-1][0].stop - axis.margin // 2 - n))
        for axis, n, along in zip(geometry.axes, shape, per_axis, strict=True)
    )
    return TileGrid(tuple(shape), fitted, padding, tiles, box)
