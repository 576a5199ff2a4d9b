"""Tiles of a valid network, which write each voxel once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from torch import Tensor

from nestseg.inferers import background
from nestseg.inferers.batching import batch_size, computed
from nestseg.inferers.slab import Predictor, Slab, Tiling, inner, longest, moved
from nestseg_prep.geometry import Geometry
from nestseg_prep.grid import Slices, tile_grid
from nestseg_prep.transforms import mirror_pad_tensor


def tiled(image: Tensor, predict: Predictor, geometry: Geometry, tiling: Tiling) -> Iterator[Slab]:
    """The finished slabs of an image; see :func:`nestseg.inferers.stitching.slabs`."""
    shape = tuple(image.shape[2:])
    body = background.body(image, tiling.background_at_most)
    seeing = _seeing(background.box(body, shape), geometry, shape)
    grid = tile_grid(geometry, shape, geometry.input_within(tiling.roi_size), seeing)
    padded = mirror_pad_tensor(image, grid.padding)
    around = None if body is None else mirror_pad_tensor(body, grid.padding)
    empty = [t for t in grid.tiles if around is not None and not around[t.read].any()]
    axis = longest(shape)
    by_place = sorted(grid.tiles, key=lambda tile: tile.write[axis].start)
    rows = [list(row) for _, row in groupby(by_place, key=lambda tile: tile.write[axis].start)]
    wanted = [[tile for tile in row if tile not in empty] for row in rows]
    wanted[0] = wanted[0] or rows[0][:1]  # what channels there are, one must tell
    size = batch_size([len(row) for row in wanted], tiling.batch)

    def finished() -> Iterator[Slab]:
        values = image.new_empty(0)
        for row, some in zip(rows, wanted, strict=True):
            corner = [s.start for s in grid.box]
            corner[axis] = row[0].write[axis].start
            extent = [s.stop - s.start for s in grid.box]
            extent[axis] = row[0].write[axis].stop - corner[axis]
            values = values.new_empty((*values.shape[:2], *extent))
            for tile, part in computed(some, size, lambda t: padded[inner(t.read)], predict):
                if values.dim() < part.dim():  # only now the channels are known
                    values = part.new_empty((len(part), part.shape[1], *extent))
                values[inner(moved(tile.write, corner))] = part[inner(tile.keep)]
            there = [tile.write for tile in row if tile in empty]
            yield Slab(axis, corner[axis], background.cleared(values, corner, there))

    yield from finished() if body is None else background.widened(finished(), grid.box, shape)


def _seeing(body: Slices | None, geometry: Geometry, shape: Sequence[int]) -> Slices:
    """The box of voxels whose answer depends on the body: it is half a margin wider.

    A mirrored border brings nothing nearer than it is.
    """
    if body is None:  # one tile must be computed to know the channels
        return tuple(slice(0, 1) for _ in shape)
    return tuple(
        slice(max(0, s.start - m // 2), min(n, s.stop + m // 2))
        for s, m, n in zip(body, geometry.margin, shape, strict=True)
    )
