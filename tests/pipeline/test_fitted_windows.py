"""Windows of a 'same' network that grow so as to cover an image with fewer voxels."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nestseg.inferers import OverlapTileInferer
from nestseg.inferers.overlap_tile import arithmetic
from nestseg.inferers.slab import Tiling
from nestseg.inferers.windows import Windows, laid
from nestseg.networks import GridUNet
from nestseg_prep.geometry import AxisGeometry, Geometry

PERIOD, ROI, LARGEST, OVERLAP = 4, 16, 24, 0.25
GEOMETRY = Geometry((AxisGeometry(0, PERIOD, 0, PERIOD),) * 3)
SHAPES = st.tuples(*[st.integers(4, 24).map(lambda n: n * PERIOD)] * 3)
UNPADDED = ((0, 0),) * 3


def windows(shape: tuple[int, ...], largest: int | None, body: Tensor | None = None) -> Windows:
    most = None if largest is None else (largest,) * 3
    tiling = Tiling((ROI,) * 3, OVERLAP, 1, None, most)
    return laid(shape, UNPADDED, body, GEOMETRY, tiling)


def computed(found: Windows) -> int:
    return sum(map(len, found.groups.values())) * prod(found.shape)


@settings(deadline=None)
@given(SHAPES)
def test_all_is_covered_with_no_more_voxels_and_no_less_overlap(shape) -> None:
    found, fixed = windows(shape, LARGEST), windows(shape, None)
    assert computed(found) <= computed(fixed)
    for size, starts, window in zip(shape, found.starts, found.shape, strict=True):
        assert (starts[0], starts[-1] + window) == (0, size)
        assert window % PERIOD == 0
        assert min(ROI, size) <= window <= min(LARGEST, size)
        steps = [b - a for a, b in pairwise(starts)]
        assert all(window - step >= OVERLAP * ROI for step in steps)


@settings(deadline=None)
@given(SHAPES, st.tuples(*[st.integers(0, 60)] * 3))
def test_the_body_lies_in_the_windows(shape, place) -> None:
    body = torch.zeros(shape, dtype=torch.bool)
    body[tuple(min(p, n - 1) for p, n in zip(place, shape, strict=True))] = True
    found = windows(shape, LARGEST, body)
    assert computed(found) == prod(found.shape)
    assert found.shape == windows(shape, None, body).shape  # a larger one computes more
    (window,) = [one for group in found.groups.values() for one in group]
    assert body[window].any()


def test_a_window_grows_where_fewer_of_them_do() -> None:
    assert windows((40, 44, 44), None).shape == (16, 16, 16)
    found = windows((40, 44, 44), LARGEST)  # three of 16 cover 40, two of 24 cover 44
    assert found.shape == (24, 24, 24)
    assert found.starts == ((0, 16), (0, 20), (0, 20))
    assert windows((40, 40, 40), LARGEST).shape == (16, 16, 16)


def test_the_margin_gives_way_where_that_saves_a_row_of_windows() -> None:
    body = torch.zeros((64, 64, 64), dtype=torch.bool)
    body[14:34, 14:37, 14:39] = True
    found = windows((64, 64, 64), None, body)
    # With a period of 4 on each side all would take three windows of 16, two of which cover 28.
    assert found.starts == ((12, 22), (12, 24), (8, 20, 27))
    assert [(s.start, s.stop) for s in found.box] == [(12, 38), (12, 40), (8, 43)]


@settings(deadline=None)
@given(SHAPES, st.tuples(*[st.tuples(st.integers(0, 95), st.integers(0, 95))] * 3))
def test_half_a_period_around_the_body_is_covered(shape, ends) -> None:
    body = torch.zeros(shape, dtype=torch.bool)
    corners = [sorted(min(e, n - 1) for e in pair) for pair, n in zip(ends, shape, strict=True)]
    body[tuple(slice(low, high + 1) for low, high in corners)] = True
    found = windows(shape, None, body)
    for (low, high), box, starts, n in zip(corners, found.box, found.starts, shape, strict=True):
        assert box.start <= max(0, low - PERIOD // 2)
        assert box.stop >= min(n, high + 1 + PERIOD // 2)
        assert box.start % PERIOD == 0
        assert (starts[0], starts[-1] + min(ROI, n)) == (box.start, box.stop)


class Pointwise(nn.Module):
    """What it says of a voxel depends on that voxel alone."""

    geometry = GEOMETRY

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x.square() - 1], dim=1)


@settings(deadline=None, max_examples=20)
@given(st.tuples(*[st.integers(5, 60)] * 3))
def test_the_blend_of_grown_windows_is_the_network(shape) -> None:
    image = torch.randn((1, 1, *shape), generator=torch.Generator().manual_seed(0))
    inferer = OverlapTileInferer((ROI,) * 3, OVERLAP, roi_size_max=(LARGEST,) * 3)
    torch.testing.assert_close(inferer(image, Pointwise()), Pointwise()(image))


def test_windows_do_not_shrink() -> None:
    with pytest.raises(ValueError, match="smaller than roi_size"):
        OverlapTileInferer((16, 16, 16), roi_size_max=(16, 8, 16))


FEATURES = (4, 8, 16, 32)


def unetpp() -> GridUNet:
    return GridUNet(features=FEATURES, topology="unet++", norm="batch").eval()


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("largest", [None, (96, 128)])
def test_windows_of_a_level_grow_into_the_memory_that_it_saves(level, largest) -> None:
    whole = unetpp()
    part = whole.pruned(level, keep_shallower=True)
    inferer = OverlapTileInferer((64, 96), 0.25, 2, None, None, largest).grown(whole, part)
    assert (inferer.roi_size, inferer.overlap, inferer.sw_batch_size) == ((64, 96), 0.25, 2)
    before, after = arithmetic(whole), arithmetic(part)
    assert before
    assert after
    assert inferer.roi_size_max
    window = part.geometry.input_within(inferer.roi_size_max)
    limit = before.values(largest or (64, 96))
    assert after.values(window) <= limit
    further = tuple(n + part.geometry.period[0] for n in window)
    assert after.values(further) > limit


def test_the_windows_of_the_whole_network_stay() -> None:
    whole = unetpp()
    inferer = OverlapTileInferer((64, 96))
    assert inferer.grown(whole, whole.pruned(3, keep_shallower=True)) is inferer


@pytest.mark.parametrize("more", [{"norm": "instance"}, {"norm": ("group", {"num_groups": 2})}])
def test_windows_stay_where_norms_take_their_means_over_them(more) -> None:
    whole = GridUNet(features=FEATURES, topology="unet++", **more)
    inferer = OverlapTileInferer((64, 96))
    assert inferer.grown(whole, whole.pruned(1)) is inferer


def test_tiles_of_a_valid_network_stay() -> None:
    whole = GridUNet(features=FEATURES, topology="unet++", padding="valid")
    inferer = OverlapTileInferer((108, 108))
    assert inferer.grown(whole, whole.pruned(1)) is inferer
