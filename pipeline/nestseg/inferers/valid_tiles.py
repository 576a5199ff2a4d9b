"""Tiles of a valid network, which write each voxel once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from nestseg.inferers import background
from nestseg.inferers.batching import batch_size, computed
from nestseg.inferers.mirrored import Mirrored
from nestseg.inferers.slab import Predictor, Slab, Tiling, inner, longest, moved
from nestseg_prep.geometry import Geometry
from nestseg_prep.grid import Slices, Tile, TileGrid, tile_grid
from nestseg_prep.transforms import mirror_pad_tensor


def tiled(image: Tensor, predict: Predictor, geometry: Geometry, tiling: Tiling) -> Iterator[Slab]:
    """The finished slabs of an image; see :func:`nestseg.inferers.stitching.slabs`."""
    shape = tuple(image.shape[2:])
    body = background.body(image, tiling.background_at_most)
    seeing = _seeing(background.box(body, shape), geometry, shape)
    grid = tile_grid(geometry, shape, geometry.input_within(tiling.roi_size), seeing)
    mirrored = Mirrored(image, grid.padding)
    around = None if body is None else mirror_pad_tensor(body, grid.padding)
    axis = longest(shape)
    rows: dict[int, list[Tile]] = {}
    empty: dict[int, list[Tile]] = {}
    for tile in grid.tiles:
        filled = around is None or bool(around[tile.read].any())
        start = tile.write[axis].start
        rows.setdefault(start, [])
        (rows if filled else empty).setdefault(start, []).append(tile)
    first = grid.box[axis].start
    rows[first] = rows[first] or empty[first][:1]  # what channels there are, one must tell
    size = batch_size([len(row) for row in rows.values()], tiling.batch)

    def finished() -> Iterator[Slab]:
        kind: Tensor | None = None  # (B, C, 0), of the type of the answers
        for start in sorted(rows):
            some = computed(rows[start], size, lambda tile: mirrored.tile(tile.read), predict)
            values = _row(grid, axis, start, some, kind)
            kind = values.new_empty((*values.shape[:2], 0)) if kind is None else kind
            corner = [start if k == axis else s.start for k, s in enumerate(grid.box)]
            there = [tile.write for tile in empty.get(start, [])]
            yield Slab(axis, start, background.cleared(values, corner, there))
            del values  # before the next row takes as much

    yield from finished() if body is None else background.widened(finished(), grid.box, shape)


def _row(
    grid: TileGrid,
    axis: int,
    start: int,
    answers: Iterator[tuple[Tile, Tensor]],
    kind: Tensor | None,
) -> Tensor:
    """What the tiles write that begin at ``start`` along an axis; elsewhere, nothing."""
    corner = [start if k == axis else s.start for k, s in enumerate(grid.box)]
    stop = next(t.write[axis].stop for t in grid.tiles if t.write[axis].start == start)
    extent = [stop - start if k == axis else s.stop - s.start for k, s in enumerate(grid.box)]
    values = None if kind is None else kind.new_empty((*kind.shape[:2], *extent))
    for tile, part in answers:
        if values is None:  # only now the channels are known
            values = part.new_empty((*part.shape[:2], *extent))
        values[inner(moved(tile.write, corner))] = part[inner(tile.keep)]
    if values is None:
        raise ValueError("the first row has a tile")
    return values


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
