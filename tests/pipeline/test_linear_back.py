"""Labels on the voxels of an image: those of interpolated logits, and of MONAI's own inversion."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from nestseg.bundle.linear_back import LinearBack
from nestseg_prep.regrid import Regrid

SHAPES = st.tuples(*[st.integers(1, 7)] * 3)


@st.composite
def grids(draw: st.DrawFn) -> Regrid:
    """Two grids in one patient: turned, flipped, of other spacings, one beyond the other."""
    order = draw(st.sampled_from(list(permutations(range(3)))))
    matrix = np.eye(4)
    matrix[:3, :3] = 0
    for target, source in enumerate(order):
        step = draw(st.floats(0.3, 2.5)) * draw(st.sampled_from([-1, 1]))
        matrix[source, target] = step
        matrix[source, 3] = draw(st.floats(-1, 1)) + (0 if step > 0 else 6)
    return Regrid(matrix, draw(SHAPES), draw(SHAPES))


@settings(deadline=None, max_examples=60)
@given(grid=grids(), axis=st.integers(0, 2), deep=st.integers(1, 3), seed=st.integers(0, 99))
def test_labels_are_those_of_interpolated_logits(
    grid: Regrid, axis: int, deep: int, seed: int
) -> None:
    source = torch.Generator().manual_seed(seed)
    logits = torch.randn((3, *grid.source), generator=source)
    back = LinearBack(grid)
    for start in range(0, grid.source[axis], deep):
        count = min(deep, grid.source[axis] - start)
        part = logits.narrow(1 + axis, start, count).clone()
        back.add(axis, start, part, part.argmax(dim=0).to(torch.uint8))
        part.fill_(float("nan"))  # a runtime writes its next answer into the same memory
    places = np.indices(grid.target).reshape(3, -1)
    there = (grid.to_source[:3, :3] @ places + grid.to_source[:3, 3:]).round(9)
    dense = np.stack(
        [ndimage.map_coordinates(one.numpy(), there, order=1, mode="nearest") for one in logits]
    )
    second, first = np.sort(dense, axis=0)[-2:]
    clear = first - second > 1e-4
    found = back.labels.reshape(-1)
    np.testing.assert_array_equal(found[clear], dense.argmax(axis=0)[clear])
    assert back.labels.flags.f_contiguous


def test_grids_that_lie_across_are_refused() -> None:
    turned = np.eye(4)
    turned[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    with pytest.raises(ValueError, match="not parallel"):
        LinearBack(Regrid(turned, (4, 4, 4), (4, 4, 4)))


def test_many_classes_take_sixteen_bits() -> None:
    back = LinearBack(Regrid(np.eye(4), (2, 2, 2), (2, 2, 2)))
    logits = torch.zeros(300, 2, 2, 2)
    logits[299] = 1
    back.add(0, 0, logits, logits.argmax(dim=0))
    assert back.labels.dtype == np.uint16
    assert (back.labels == 299).all()
