"""Tiles cover an image exactly, in the network's phase, whatever the sizes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestseg_prep.geometry import AxisGeometry, Geometry, GridAxis
from nestseg_prep.grid import TileGrid, aligned_stride, tile_grid


def unet_axis(depth: int) -> AxisGeometry:
    return GridAxis((2,) * depth, (4,) * (depth + 1), (4,) * depth).geometry()


@st.composite
def axis_cases(draw: st.DrawFn) -> tuple[AxisGeometry, int, int]:
    """An axis, the size of an image along it, and a tile that can be laid."""
    margin, period = 2 * draw(st.integers(0, 20)), draw(st.integers(1, 16))
    residue = draw(st.integers(0, period - 1))
    least = margin + draw(st.integers(1, 8))
    axis = AxisGeometry(margin, period, residue, least + (residue - least) % period)
    tile = axis.input_size(period) + period * draw(st.integers(0, 4))
    return axis, draw(st.integers(1, 70)), tile


@st.composite
def grids(draw: st.DrawFn) -> tuple[Geometry, TileGrid]:
    cases = draw(st.lists(axis_cases(), min_size=1, max_size=3))
    axes, shape, tile = zip(*cases, strict=True)
    shape = tuple(min(n, 24) for n in shape) if len(cases) == 3 else shape
    geometry = Geometry(tuple(axes))
    return geometry, tile_grid(geometry, shape, tile)


@st.composite
def boxed(draw: st.DrawFn) -> tuple[Geometry, TileGrid]:
    """A grid over a part of an image."""
    geometry, whole = draw(grids())
    ends = [sorted((draw(st.integers(0, n - 1)), draw(st.integers(0, n - 1)))) for n in whole.shape]
    covered = tuple(slice(low, high + 1) for low, high in ends)
    grid = tile_grid(geometry, whole.shape, whole.tile, covered)
    assert grid.tile == whole.tile
    assert len(grid.tiles) <= len(whole.tiles)
    for box, wanted, period in zip(grid.box, covered, geometry.period, strict=True):
        assert box.stop == wanted.stop
        assert wanted.start - period < box.start <= wanted.start
    return geometry, grid


@settings(deadline=None)
@given(grids() | boxed())
def test_tiles_write_every_voxel_exactly_once(case: tuple[Geometry, TileGrid]) -> None:
    _, grid = case
    written, expected = np.zeros(grid.shape, int), np.zeros(grid.shape, int)
    expected[grid.box] = 1
    for tile in grid.tiles:
        written[tile.write] += 1
    np.testing.assert_array_equal(written, expected)


@settings(deadline=None)
@given(grids() | boxed())
def test_every_tile_starts_in_phase_and_reads_inside_the_padded_image(
    case: tuple[Geometry, TileGrid],
) -> None:
    geometry, grid = case
    for tile in grid.tiles:
        for axis, n in enumerate(grid.shape):
            before, after = grid.padding[axis]
            read = tile.read[axis]
            assert read.start % geometry.period[axis] == 0
            assert read.stop - read.start == grid.tile[axis]
            assert 0 <= read.start < read.stop <= before + n + after


@settings(deadline=None)
@given(grids() | boxed())
def test_a_kept_voxel_is_written_where_the_network_saw_it(
    case: tuple[Geometry, TileGrid],
) -> None:
    geometry, grid = case
    out = geometry.output_size(grid.tile)
    for tile in grid.tiles:
        for axis, margin in enumerate(geometry.margin):
            read, keep, write = tile.read[axis], tile.keep[axis], tile.write[axis]
            assert 0 <= keep.start < keep.stop <= out[axis]
            assert write.stop - write.start == keep.stop - keep.start
            centre = read.start + margin // 2 + keep.start  # in the padded image
            assert centre == grid.padding[axis][0] + write.start


@settings(deadline=None)
@given(grids())
def test_the_whole_is_the_box_where_none_is_given(case: tuple[Geometry, TileGrid]) -> None:
    _, grid = case
    assert grid.box == tuple(slice(0, n) for n in grid.shape)


@settings(deadline=None)
@given(grids())
def test_no_padding_is_read_that_no_tile_needs(case: tuple[Geometry, TileGrid]) -> None:
    _, grid = case
    for axis, n in enumerate(grid.shape):
        before, after = grid.padding[axis]
        assert min(tile.read[axis].start for tile in grid.tiles) == 0
        assert max(tile.read[axis].stop for tile in grid.tiles) == before + n + after


@given(axis_cases())
def test_the_number_of_tiles_is_the_least_that_the_stride_allows(
    case: tuple[AxisGeometry, int, int],
) -> None:
    axis, n, tile = case
    grid = tile_grid(Geometry((axis,)), (n,), (tile,))
    uncovered = max(0, n - axis.output_size(tile))
    assert len(grid.tiles) == 1 + math.ceil(uncovered / aligned_stride(axis, tile))


@given(axis_cases())
def test_an_image_that_fits_takes_one_tile_of_the_smallest_size(
    case: tuple[AxisGeometry, int, int],
) -> None:
    axis, _, tile = case
    n = axis.output_size(tile)
    for size in {1, (n + 1) // 2, n}:
        grid = tile_grid(Geometry((axis,)), (size,), (tile,))
        assert len(grid.tiles) == 1
        assert grid.tile == (axis.input_size(size),)


def test_the_tile_of_the_2015_paper_steps_by_384_and_not_by_388() -> None:
    axis = unet_axis(4)
    assert aligned_stride(axis, 572) == 384
    grid = tile_grid(Geometry((axis,) * 2), (512, 512), (572, 572))
    assert [tile.read[1].start for tile in grid.tiles] == [0, 384, 0, 384]
    assert [tile.write[1] for tile in grid.tiles[:2]] == [slice(0, 388), slice(388, 512)]
    assert grid.padding == ((92, 384 + 572 - 92 - 512),) * 2


def test_a_tile_that_does_not_fit_the_network_is_refused() -> None:
    with pytest.raises(ValueError, match="556 and 572"):
        tile_grid(Geometry((unet_axis(4),) * 2), (512, 512), (570, 572))


def test_a_tile_too_small_to_step_is_refused_with_the_smallest_that_can() -> None:
    axis = unet_axis(3)  # 92 → 4, and the period is 8
    with pytest.raises(ValueError, match="smallest tile that can be laid is 100"):
        tile_grid(Geometry((axis,)), (5,), (92,))
    assert len(tile_grid(Geometry((axis,)), (4,), (92,)).tiles) == 1
    assert len(tile_grid(Geometry((axis,)), (13,), (100,)).tiles) == 2


def test_an_image_without_voxels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(0, 9\) has no voxels"):
        tile_grid(Geometry((unet_axis(1),) * 2), (0, 9), (18, 18))
