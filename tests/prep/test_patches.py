"""Where patches are taken and what is cut."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestseg_prep.geometry import AxisGeometry, Geometry, GridAxis
from nestseg_prep.patches import crop_to_output, cut, draw_balanced, starts_around

UNET_2015 = Geometry((GridAxis((2,) * 4, (4,) * 5, (4,) * 4).geometry(),) * 2)
SAME = Geometry((AxisGeometry(margin=0, period=16, residue=0, minimum=16),) * 2)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 50), st.integers(0, 99))
def test_classes_are_drawn_equally_often(labels: list[int], number: int, seed: int) -> None:
    volume = np.array(labels).reshape(1, -1)
    places = draw_balanced(volume, number, np.random.RandomState(seed))
    assert places.shape == (number, 2)
    drawn = volume[tuple(places.T)]
    counts = [(drawn == value).sum() for value in np.unique(volume)]
    assert max(counts) - min(counts) <= 1


def test_a_rare_class_gives_all_its_voxels_before_it_repeats_one() -> None:
    labels = np.zeros((20, 20), dtype=int)
    labels[3, 2:9] = 1
    places = draw_balanced(labels, 14, np.random.RandomState(0))
    rare = {tuple(place) for place in places.tolist() if labels[tuple(place)]}
    assert rare == {(3, column) for column in range(2, 9)}


def test_a_window_is_centred_on_its_pixel_and_mirrored_beyond_the_border() -> None:
    image = np.random.default_rng(0).normal(size=(2, 12, 10))
    centres = np.array([(0, 0), (5, 4), (11, 9), (3, 9)])
    windows = cut(image, centres - 3, (7, 7))
    padded = np.pad(image, ((0, 0), (3, 3), (3, 3)), mode="reflect")
    for (row, column), window in zip(centres, windows, strict=True):
        np.testing.assert_array_equal(window[:, 3, 3], image[:, row, column])
        np.testing.assert_array_equal(window, padded[:, row : row + 7, column : column + 7])


@settings(deadline=None)
@given(st.data())
def test_patches_lie_in_the_image_and_hold_their_centre(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 20), st.integers(1, 20)))
    size = data.draw(st.tuples(st.integers(1, 24), st.integers(1, 24)))
    centre = [data.draw(st.integers(0, n - 1)) for n in shape]
    (start,) = starts_around(np.array([centre]), size, shape)
    for first, voxels, at, n in zip(start.tolist(), size, centre, shape, strict=True):
        assert first <= at < first + voxels
        if voxels <= n:
            assert 0 <= first <= n - voxels
        else:
            assert first == -((voxels - n) // 2)
    cut(np.zeros((1, *shape)), np.array([start]), size)


def test_a_window_wider_than_twice_the_image_can_be_cut() -> None:
    image = np.arange(3.0).reshape(1, 1, 3)
    (window,) = cut(image, np.array([[-5, -5]]), (11, 11))
    np.testing.assert_array_equal(window[0, 0], [1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1])


def test_a_target_is_cropped_to_the_papers_388() -> None:
    target = np.arange(572)[:, None] + np.zeros((1, 572))
    cropped = crop_to_output(target[None], UNET_2015)
    assert cropped.shape == (1, 388, 388)
    assert cropped[0, 0, 0] == 92
    assert cropped[0, -1, 0] == 571 - 92


def test_a_same_network_leaves_the_target_whole() -> None:
    target = np.zeros((1, 32, 48))
    assert crop_to_output(target, SAME).shape == target.shape


def test_a_target_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("nearest sizes that do: 572 and 588")):
        crop_to_output(np.zeros((1, 580, 572)), UNET_2015)
