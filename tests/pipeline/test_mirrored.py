"""Tiles read from a mirrored image against those of a padded copy of it."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nestseg.inferers.mirrored import Mirrored
from nestseg_prep.transforms import mirror_pad_tensor

AXIS = st.tuples(st.integers(1, 9), st.integers(0, 12), st.integers(0, 12))


@settings(deadline=None)
@given(st.lists(AXIS, min_size=2, max_size=3), st.data())
def test_a_tile_is_what_the_padded_image_holds_there(axes, data) -> None:
    shape = (2, 1, *(size for size, _, _ in axes))
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    padding = [(before, after) for _, before, after in axes]
    place = []
    for size, before, after in axes:
        low = data.draw(st.integers(0, before + size + after - 1))
        high = data.draw(st.integers(low + 1, before + size + after))
        place.append(slice(low, high))
    expected = mirror_pad_tensor(image, padding)[(..., *place)]
    assert torch.equal(Mirrored(image, padding).tile(tuple(place)), expected)


def test_a_tile_within_the_image_is_no_copy() -> None:
    image = torch.randn(1, 1, 8, 8)
    tile = Mirrored(image, [(2, 2), (2, 2)]).tile((slice(2, 6), slice(4, 10)))
    assert tile.untyped_storage().data_ptr() == image.untyped_storage().data_ptr()
