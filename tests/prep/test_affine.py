import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestseg_prep import affine as affines

_SPACING = st.tuples(*[st.floats(0.05, 20)] * 3)
_ORIGIN = st.tuples(*[st.floats(-1000, 1000)] * 3)
_ANGLES = st.tuples(*[st.floats(-180, 180)] * 3)


def build(spacing, origin, angles):
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(angles)):
        turn = np.eye(3)
        others = [other for other in range(3) if other != axis]
        turn[np.ix_(others, others)] = [
            [np.cos(angle), -np.sin(angle)],
            [np.sin(angle), np.cos(angle)],
        ]
        matrix = matrix @ turn
    affine = np.eye(4)
    affine[:3, :3] = matrix * spacing
    affine[:3, 3] = origin
    return affine


@given(_SPACING, _ORIGIN, _ANGLES)
def test_swapping_lps_and_ras_twice_changes_nothing(spacing, origin, angles):
    affine = build(spacing, origin, angles)
    np.testing.assert_array_equal(affines.swap_lps_ras(affines.swap_lps_ras(affine)), affine)


@given(_SPACING, _ORIGIN, _ANGLES)
def test_spacing_survives_any_rotation(spacing, origin, angles):
    assert affines.spacing(build(spacing, origin, angles)) == pytest.approx(spacing)


@given(_SPACING, _ORIGIN, _ANGLES)
def test_a_rotated_grid_is_orthogonal_and_names_three_different_axes(spacing, origin, angles):
    affine = build(spacing, origin, angles)
    assert affines.is_orthogonal(affine, 1e-9)
    assert not affines.is_singular(affine)
    assert {code.translate(str.maketrans("LPI", "RAS")) for code in affines.axis_codes(affine)} == {
        "R",
        "A",
        "S",
    }


@pytest.mark.parametrize(
    ("angles", "name"),
    [
        ((0, 0, 0), "axial"),
        ((90, 0, 0), "coronal"),
        ((0, 90, 0), "sagittal"),
        ((45, 0, 0), "oblique"),
        ((20, 0, 40), "axial"),
    ],
)
def test_the_plane_is_named_after_the_direction_across_it(angles, name):
    assert affines.orientation(build((1, 1, 2), (0, 0, 0), angles)) == name


def test_a_sheared_grid_is_not_orthogonal():
    affine = np.eye(4)
    affine[1, 2] = np.tan(np.radians(15))
    assert affines.shear(affine) == pytest.approx(np.sin(np.radians(15)))
    assert not affines.is_orthogonal(affine)


def test_two_axes_along_one_line_are_singular_at_any_voxel_size():
    flat = np.eye(4)
    flat[:3, 1] = flat[:3, 0]
    assert affines.is_singular(flat)
    assert affines.is_singular(np.diag([1.0, 0.0, 1.0, 1.0]))
    assert not affines.is_singular(np.diag([1e-4, 1e-4, 1e-4, 1.0]))


def test_corner_distance_is_the_worst_of_all_voxels():
    moved = np.eye(4)
    moved[0, 0] = 1.01
    assert affines.corner_distance(np.eye(4), moved, (101, 5, 5)) == pytest.approx(1.0)
