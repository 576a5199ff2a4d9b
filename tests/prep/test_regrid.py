"""The way back of a label map is that of MONAI's resampling, whatever the grids."""

from __future__ import annotations

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from nestseg_prep.regrid import Regrid


def affine(angles: tuple[float, ...], spacing: tuple[float, ...], origin: tuple[float, ...]):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles).as_matrix() @ np.diag(spacing)
    matrix[:3, 3] = origin
    return matrix


def by_hand(array: np.ndarray, from_affine: np.ndarray, to_affine: np.ndarray, shape) -> np.ndarray:
    """Each voxel by itself: to millimetres and to the nearest voxel of the other grid."""
    out = np.empty(shape, array.dtype)
    for index in product(*map(range, shape)):
        point = np.linalg.inv(from_affine) @ to_affine @ [*index, 1]
        place = np.clip(np.rint(point[:3].round(9)).astype(int), 0, np.array(array.shape) - 1)
        out[index] = array[tuple(place)]
    return out


angle = st.floats(-3, 3)
size = st.integers(1, 7)
step = st.floats(0.3, 4).map(lambda x: round(x, 2))


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(angle, angle, angle),
    st.tuples(step, step, step),
    st.tuples(step, step, step),
    st.tuples(size, size, size),
    st.tuples(size, size, size),
    st.booleans(),
)
def test_each_voxel_gets_the_nearest(angles, coarse, fine, source, target, across) -> None:
    array = np.random.default_rng(0).integers(0, 999, source).astype(np.uint16)
    to_affine = affine(angles, fine, (4.0, -9.0, 2.0))
    turned = tuple(a + 0.4 * across for a in angles)
    from_affine = affine(turned, coarse, (5.0, -8.5, 1.0))
    found = Regrid.between(from_affine, source, to_affine, target).nearest(array)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, by_hand(array, from_affine, to_affine, target))


@pytest.mark.parametrize("axes", list(permutations(range(3))))
@pytest.mark.parametrize("flips", list(product((1, -1), repeat=3)))
def test_turning_and_flipping_lose_nothing(axes: tuple[int, ...], flips: tuple[int, ...]) -> None:
    array = np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5)
    start = affine((0.1, 0.2, -0.3), (0.7, 0.8, 2.5), (-3.0, 4.0, 100.0))
    turn = np.column_stack([axes, flips])
    turned = nib.orientations.apply_orientation(array, turn)
    there = start @ nib.orientations.inv_ornt_aff(turn, array.shape)
    back = Regrid.between(there, turned.shape, start, array.shape).nearest(turned)
    np.testing.assert_array_equal(back, array)


def test_some_planes_are_those_of_all() -> None:
    array = np.random.default_rng(1).integers(0, 9, (5, 6, 7)).astype(np.uint8)
    for angles in ((0.0, 0.0, 0.0), (0.2, 0.0, 0.1)):
        fine = affine(angles, (0.6, 0.7, 0.8), (0, 0, 0))
        grid = Regrid.between(np.eye(4), array.shape, fine, (8, 7, 9))
        whole = grid.nearest(array)
        np.testing.assert_array_equal(grid.nearest(array, slice(2, 5)), whole[:, :, 2:5])


def test_half_way_between_two_voxels_the_even_one_counts() -> None:
    far = affine((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (1234.567, -987.654, 333.333))
    fine = far @ np.diag([0.5, 1, 1, 1])
    array = np.arange(4, dtype=np.uint8).reshape(4, 1, 1)
    found = Regrid.between(far, (4, 1, 1), fine, (7, 1, 1)).nearest(array)
    assert found.ravel().tolist() == [0, 0, 1, 2, 2, 2, 3]
