"""The arithmetic of valid and same networks against closed forms and a simulation."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestseg_prep.geometry import AxisGeometry, Geometry, GridAxis

DEPTHS = range(1, 6)
LOST = 4  # by two unpadded 3-convolutions


def unet_axis(depth: int, lost: int = LOST) -> GridAxis:
    return GridAxis((2,) * depth, (lost,) * (depth + 1), (lost,) * depth)


def simulated_output(
    n: int, pools: Sequence[int], down: Sequence[int], up: Sequence[int]
) -> int | None:
    """Voxels that a U-Net puts out, walked through layer by layer; ``None`` where one has none."""
    n -= down[0]
    for pool, lost in zip(pools, down[1:], strict=True):
        if n <= 0 or n % pool:
            return None
        n = n // pool - lost
    for pool, lost in zip(reversed(pools), reversed(up), strict=True):
        if n <= 0:
            return None
        n = n * pool - lost
    return n if n > 0 else None


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_valid_unet_obeys_the_closed_form_at_every_size(depth: int) -> None:
    axis, period = unet_axis(depth).geometry(), 2**depth
    margin = LOST * (3 * period - 2)
    for n in range(1, 1300):
        admissible = (n + LOST) % period == 0 and n > margin
        assert axis.admits(n) == admissible
        assert simulated_output(n, (2,) * depth, (4,) * (depth + 1), (4,) * depth) == (
            n - margin if admissible else None
        )
        if admissible:
            bottom = (n + LOST) // period - 2 * LOST
            assert axis.output_size(n) == n - margin == period * (bottom - LOST) + LOST


@pytest.mark.parametrize(
    ("depth", "residue", "margin", "smallest", "out"),
    [
        (1, 0, 16, 18, 2),
        (2, 0, 40, 44, 4),
        (3, 4, 88, 92, 4),
        (4, 12, 184, 188, 4),
        (5, 28, 376, 380, 4),
    ],
)
def test_margin_and_smallest_input_follow_from_the_depth(
    depth: int, residue: int, margin: int, smallest: int, out: int
) -> None:
    assert unet_axis(depth).geometry() == AxisGeometry(margin, 2**depth, residue, smallest)
    assert unet_axis(depth).geometry().output_size(smallest) == out


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_same_unet_admits_exactly_the_multiples_of_its_period(depth: int) -> None:
    axis = unet_axis(depth, lost=0).geometry()
    assert axis == AxisGeometry(margin=0, period=2**depth, residue=0, minimum=2**depth)
    assert [n for n in range(1300) if axis.admits(n)] == list(range(2**depth, 1300, 2**depth))


def test_the_papers_sizes_come_out() -> None:
    unet = Geometry((unet_axis(4).geometry(),) * 2)
    assert unet.output_size((572, 572)) == (388, 388)
    assert unet.margin == (184, 184)
    assert unet.period == (16, 16)
    assert unet.is_valid
    unet3d = Geometry((unet_axis(3).geometry(),) * 3)
    assert unet3d.output_size((132, 132, 116)) == (44, 44, 28)
    assert not Geometry((unet_axis(3, lost=0).geometry(),) * 3).is_valid


def test_the_nodes_of_the_2015_unet_have_the_sizes_of_its_figure() -> None:
    sizes = unet_axis(4).sizes(572)
    encoder = {(0, 0): 568, (1, 0): 280, (2, 0): 136, (3, 0): 64, (4, 0): 28}
    decoder = {(3, 1): 52, (2, 2): 100, (1, 3): 196, (0, 4): 388}
    assert {node: sizes[node] for node in encoder | decoder} == encoder | decoder
    assert [sizes[0, k] for k in (1, 2, 3, 4)] == [556, 532, 484, 388]
    assert len(sizes) == 15


@pytest.mark.parametrize("depth", DEPTHS)
def test_every_lateral_is_cropped_alike_on_both_sides(depth: int) -> None:
    grid = unet_axis(depth)
    sizes = grid.sizes(grid.geometry().input_size(100))
    for i, j in sizes:
        for k in range(j):
            crop = sizes[i, k] - 2 * sizes[i + 1, j - 1]
            assert crop == 2 * (6 * (2**j - 2**k) - 2)


@pytest.mark.parametrize(
    ("covered", "n"), [(512, 700), (256, 444), (96, 284), (1024, 1212), (520, 716), (696, 892)]
)
def test_the_smallest_input_that_covers_an_image_is_that_of_the_sheet(covered: int, n: int) -> None:
    axis = unet_axis(4).geometry()
    assert axis.input_size(covered) == n
    assert axis.output_size(n) >= covered > axis.output_size(n - 16)


def test_head_k_has_the_margin_of_a_unet_of_depth_k() -> None:
    grid = unet_axis(4)
    assert [grid.margin(k) for k in (1, 2, 3, 4)] == [16, 40, 88, 184]
    for k in (1, 2, 3, 4):
        assert grid.geometry(k) == unet_axis(k).geometry()


@pytest.mark.parametrize(
    ("n", "near"), [(571, "556 and 572"), (573, "572 and 588"), (189, "188 and 204"), (40, "188")]
)
def test_an_inadmissible_size_is_refused_with_the_nearest_that_fit(n: int, near: str) -> None:
    axis = unet_axis(4).geometry()
    with pytest.raises(ValueError, match=re.escape(f"{n} voxels")) as refusal:
        axis.output_size(n)
    assert str(refusal.value).endswith(f": {near}")
    with pytest.raises(ValueError, match=str(n)):
        unet_axis(4).sizes(n)


def test_a_shape_of_the_wrong_rank_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        Geometry((unet_axis(4).geometry(),) * 2).output_size((572, 572, 572))


@st.composite
def grid_axes(draw: st.DrawFn) -> GridAxis:
    """Any pools and any even losses, as anisotropic networks have."""
    pools = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    losses = st.sampled_from((0, 2, 4, 6))
    down = draw(st.lists(losses, min_size=len(pools) + 1, max_size=len(pools) + 1))
    up = draw(st.lists(losses, min_size=len(pools), max_size=len(pools)))
    return GridAxis(tuple(pools), tuple(down), tuple(up))


@given(grid_axes())
def test_any_pools_and_losses_agree_with_a_walk_through_the_layers(grid: GridAxis) -> None:
    axis = grid.geometry()
    for n in range(1, axis.minimum + 2 * axis.period + 1):
        walked = simulated_output(n, grid.pools, grid.encoder_losses, grid.decoder_losses)
        assert axis.admits(n) == (walked is not None)
        if walked is not None:
            assert axis.output_size(n) == walked
            sizes = grid.sizes(n)
            assert sizes[0, len(grid.pools)] == walked
            assert min(sizes.values()) > 0


def test_an_axis_pooled_less_often_loses_less() -> None:
    """The z axis of thick slices: level 0 has 1-wide kernels and no pool behind it."""
    axis = GridAxis((1, 2, 2, 2), (0, 4, 4, 4, 4), (0, 4, 4, 4)).geometry()
    assert axis.margin == 88
    assert axis.period == 8


@given(grid_axes(), st.integers(1, 2000))
def test_input_size_is_the_smallest_that_covers(grid: GridAxis, at_least: int) -> None:
    axis = grid.geometry()
    n = axis.input_size(at_least)
    assert axis.output_size(n) >= at_least
    smaller = n - axis.period
    assert not axis.admits(smaller) or axis.output_size(smaller) < at_least


@given(grid_axes(), st.integers(1, 2000))
def test_input_within_is_the_largest_that_fits_or_the_smallest_of_all(
    grid: GridAxis, at_most: int
) -> None:
    axis = grid.geometry()
    fitting = [n for n in range(1, at_most + 1) if axis.admits(n)]
    assert axis.input_within(at_most) == (fitting[-1] if fitting else axis.minimum)


@given(grid_axes(), st.integers(1, 500))
def test_what_covers_an_output_is_found_again_from_it(grid: GridAxis, at_least: int) -> None:
    axis = grid.geometry()
    n = axis.input_size(at_least)
    assert axis.input_size(axis.output_size(n)) == n == axis.input_within(n)
    both = Geometry((axis, unet_axis(2).geometry()))
    assert both.input_size((at_least, 4)) == (n, 44)
    assert both.input_within((n, 47)) == (n, 44)


def test_a_grid_whose_losses_do_not_fit_its_pools_is_refused() -> None:
    with pytest.raises(ValueError, match="2 pools want 3 encoder and 2 decoder losses"):
        GridAxis((2, 2), (4, 4), (4, 4))
    with pytest.raises(ValueError, match="odd kernels"):
        GridAxis((2,), (4, 3), (4,))


def test_a_same_geometry_admits_the_multiples_of_its_period_and_loses_nothing() -> None:
    geometry = Geometry.same(2, period=8)
    assert geometry.output_size((8, 24)) == (8, 24)
    assert geometry.input_size((1, 9)) == (8, 16)
    assert not geometry.is_valid
    with pytest.raises(ValueError, match="16 and 24"):
        geometry.output_size((8, 20))
    anything = Geometry.same(3, period=1)
    assert anything.input_size((1, 2, 3)) == (1, 2, 3)
