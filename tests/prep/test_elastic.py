"""Elastic deformation: what it must leave alone, and what it must do exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestseg_prep.elastic import POINTS, deform, displacement_field, draw_control

SHAPES = [(13, 17), (9, 11, 7)]


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(2, *shape))


@pytest.mark.parametrize("shape", [*SHAPES, (1, 8), (2, 3)])
@pytest.mark.parametrize("nearest", [False, True])
def test_sigma_zero_is_the_identity(shape: tuple[int, ...], nearest: bool) -> None:
    control = draw_control(np.random.RandomState(0), 0.0, len(shape))
    image = noise(shape)
    deformed = deform(image, displacement_field(control, shape), nearest=nearest)
    np.testing.assert_array_equal(deformed, image)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_field_passes_through_the_control_points(shape: tuple[int, ...]) -> None:
    control = draw_control(np.random.RandomState(0), 10.0, len(shape))
    field = displacement_field(control, shape)
    assert field.shape == (len(shape), *shape)
    at = np.ix_(range(len(shape)), *([0, n // 2, n - 1] for n in shape))
    np.testing.assert_allclose(field[at], control, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_linear_displacements_stay_linear(shape: tuple[int, ...]) -> None:
    # What MONAI's bicubic upsampling of coordinates does not keep.
    steps = np.stack(np.meshgrid(*[np.arange(POINTS)] * len(shape), indexing="ij"))
    weights = np.arange(1, len(shape) + 1)
    control = np.stack([np.tensordot(weights * k, steps, 1) for k in weights]).astype(float)
    places = np.stack(np.meshgrid(*(np.linspace(0, 2, n) for n in shape), indexing="ij"))
    expected = np.stack([np.tensordot(weights * k, places, 1) for k in weights])
    np.testing.assert_allclose(displacement_field(control, shape), expected, atol=1e-12)


@given(st.integers(-4, 4), st.integers(-4, 4))
def test_equal_whole_displacements_shift_the_mirrored_image(down: int, right: int) -> None:
    shape = (9, 8)
    control = np.broadcast_to(np.array([down, right], float)[:, None, None], (2, POINTS, POINTS))
    image = noise(shape)
    mirrored = np.pad(image, ((0, 0), (4, 4), (4, 4)), mode="reflect")
    expected = mirrored[:, 4 + down : 13 + down, 4 + right : 12 + right]
    shifted = deform(image, displacement_field(control, shape))
    np.testing.assert_allclose(shifted, expected, atol=1e-12)


def test_the_nearest_voxel_invents_no_label_and_keeps_the_dtype() -> None:
    labels = np.random.default_rng(0).integers(0, 9, size=(1, 20, 20)).astype(np.uint8) * 28
    field = displacement_field(draw_control(np.random.RandomState(1), 5.0, 2), (20, 20))
    deformed = deform(labels, field, nearest=True)
    assert deformed.dtype == np.uint8
    assert set(np.unique(deformed)) <= set(np.unique(labels))
    assert (deformed != labels).any()


def test_sigma_may_differ_by_axis() -> None:
    control = draw_control(np.random.RandomState(0), (0.0, 4.0, 8.0), 3)
    assert not control[0].any()
    assert control[2].std() > control[1].std() > 0


def test_the_displacements_have_the_papers_spread() -> None:
    drawn = [draw_control(np.random.RandomState(seed), 10.0, 2) for seed in range(400)]
    assert np.std(drawn) == pytest.approx(10, rel=0.03)
