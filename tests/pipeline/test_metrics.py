"""The electron-microscopy metrics: cases worked by hand, and formulas computed another way."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.measure import shannon_entropy
from skimage.metrics import adapted_rand_error, variation_of_information

from nestseg.metrics import (
    SplitMerge,
    pixel_error,
    segments_of,
    topological_errors,
    v_info,
    v_rand,
    warping_error,
)
from nestseg.metrics.warping import _RING, _simple_neighbourhoods

SCORES = [v_rand, v_info]
CONNECTIVITIES = [4, 8]
Score = Callable[[np.ndarray, np.ndarray], SplitMerge]

label_images = hnp.arrays(np.int64, (4, 5), elements=st.integers(0, 3))
with_foreground = label_images.filter(lambda labels: bool(labels.any()))
foregrounds = hnp.arrays(np.bool_, (7, 8))


def singled_out(prediction: np.ndarray, truth: np.ndarray) -> tuple[list[int], list[int]]:
    """Segments of the pixels on true foreground; each predicted border pixel its own segment."""
    pixels = [(s, t) for s, t in zip(prediction.flat, truth.flat, strict=True) if t]
    return [-k - 1 if s == 0 else int(s) for k, (s, _) in enumerate(pixels)], [t for _, t in pixels]


def rand_by_pairs(prediction: np.ndarray, truth: np.ndarray) -> SplitMerge:
    """Count pairs of pixels, drawn with replacement, one by one."""
    s, t = singled_out(prediction, truth)
    pairs = [(a, b) for a in range(len(s)) for b in range(len(s))]
    together_s = {(a, b) for a, b in pairs if s[a] == s[b]}
    together_t = {(a, b) for a, b in pairs if t[a] == t[b]}
    both = len(together_s & together_t)
    f_score = both / (0.5 * len(together_s) + 0.5 * len(together_t))
    return SplitMerge(f_score, both / len(together_t), both / len(together_s))


def info_by_definition(prediction: np.ndarray, truth: np.ndarray) -> SplitMerge:
    """I = Σ p log(p / st), pair by pair."""
    s, t = singled_out(prediction, truth)
    n = len(s)
    mutual = sum(
        (p := sum(pair == other for other in zip(s, t, strict=True)) / n)
        * math.log(p / (s.count(pair[0]) / n * t.count(pair[1]) / n))
        for pair in set(zip(s, t, strict=True))
    )
    h_s, h_t = (-sum(x.count(k) / n * math.log(x.count(k) / n) for k in set(x)) for x in (s, t))
    return SplitMerge(
        2 * mutual / (h_s + h_t) if h_s + h_t else 1.0,
        mutual / h_s if h_s else 1.0,
        mutual / h_t if h_t else 1.0,
    )


def assert_scores(found: SplitMerge, expected: SplitMerge) -> None:
    for side in ("f_score", "split", "merge"):
        assert getattr(found, side) == pytest.approx(getattr(expected, side), abs=1e-9)


@settings(deadline=None)
@given(label_images, with_foreground)
def test_v_rand_counts_pairs_of_pixels(prediction: np.ndarray, truth: np.ndarray) -> None:
    assert_scores(v_rand(prediction, truth), rand_by_pairs(prediction, truth))


@settings(deadline=None)
@given(label_images, with_foreground)
def test_v_info_is_the_normalised_mutual_information(
    prediction: np.ndarray, truth: np.ndarray
) -> None:
    assert_scores(v_info(prediction, truth), info_by_definition(prediction, truth))


@pytest.mark.parametrize("score", SCORES)
@given(label_images, with_foreground)
def test_scores_lie_between_0_and_1_and_do_not_depend_on_the_numbers_of_segments(
    score: Score, prediction: np.ndarray, truth: np.ndarray
) -> None:
    found = score(prediction, truth)
    for side in (found.f_score, found.split, found.merge):
        assert 0 <= side <= 1 + 1e-12
    renamed = np.array([0, 900, 5, 70])
    assert_scores(score(renamed[prediction], renamed[truth]), found)


@pytest.mark.parametrize("score", SCORES)
@given(with_foreground)
def test_a_perfect_segmentation_scores_1(score: Score, truth: np.ndarray) -> None:
    assert_scores(score(truth, truth), SplitMerge(1, 1, 1))


@pytest.mark.parametrize("score", SCORES)
@given(label_images.map(lambda x: x + 1), label_images.map(lambda x: x + 1))
def test_splits_of_one_are_merges_of_the_other(score: Score, a: np.ndarray, b: np.ndarray) -> None:
    forth, back = score(a, b), score(b, a)
    assert_scores(forth, SplitMerge(back.f_score, back.merge, back.split))


@pytest.mark.parametrize("score", SCORES)
def test_a_split_costs_the_split_score_alone_and_a_merger_the_merge_score(score: Score) -> None:
    whole, halves = np.ones((2, 4), int), np.repeat([[1, 1, 2, 2]], 2, axis=0)
    assert score(halves, whole).merge == 1
    assert score(halves, whole).split < 1
    assert score(whole, halves).split == 1
    assert score(whole, halves).merge < 1


def test_two_halves_of_one_segment_have_the_hand_worked_scores() -> None:
    whole, halves = np.ones((2, 4), int), np.repeat([[1, 1, 2, 2]], 2, axis=0)
    assert_scores(v_rand(halves, whole), SplitMerge(2 / 3, 1 / 2, 1))
    assert_scores(v_info(halves, whole), SplitMerge(0, 0, 1))


@pytest.mark.parametrize("score", SCORES)
def test_pixels_of_the_true_border_do_not_count(score: Score) -> None:
    truth = np.array([[1, 1, 0, 2, 2]])
    assert_scores(score(np.array([[1, 1, 1, 2, 2]]), truth), SplitMerge(1, 1, 1))
    assert_scores(score(np.array([[1, 1, 7, 2, 2]]), truth), SplitMerge(1, 1, 1))


def test_predicted_border_on_a_cell_counts_as_singletons() -> None:
    found = v_rand(np.array([[1, 0, 0, 0]]), np.array([[1, 1, 1, 1]]))
    assert_scores(found, SplitMerge(2 * 4 / (4 + 16), 4 / 16, 1))


@pytest.mark.parametrize("score", SCORES)
def test_a_truth_without_foreground_or_of_another_shape_is_refused(score: Score) -> None:
    with pytest.raises(ValueError, match="no foreground"):
        score(np.ones((2, 2), int), np.zeros((2, 2), int))
    with pytest.raises(ValueError, match="truth of"):
        score(np.ones((2, 3), int), np.ones((2, 2), int))


def test_the_width_of_a_drawn_border_does_not_change_the_segments() -> None:
    truth = np.zeros((20, 21), int)
    truth[:, :10], truth[:, 11:] = 1, 2
    for width in (1, 3, 5):
        foreground = np.ones((20, 21), bool)
        foreground[:, 10 - width // 2 : 11 + width // 2] = False
        segments = segments_of(foreground)
        assert segments.min() == 1
        assert_scores(v_rand(segments, truth), SplitMerge(1, 1, 1))


def test_segments_connect_through_corners_only_when_asked() -> None:
    foreground = np.eye(4, dtype=bool)
    assert segments_of(foreground).max() == 4
    assert segments_of(foreground, connectivity=2).max() == 1
    assert not segments_of(np.zeros((3, 3), bool)).any()


# The warping error.


def block(rows: slice, columns: slice) -> np.ndarray:
    image = np.zeros((60, 60), dtype=bool)
    image[rows, columns] = True
    return image


BLOCK = block(slice(8, 52), slice(8, 52))
PAIR = block(slice(10, 50), slice(5, 28)) | block(slice(10, 50), slice(32, 55))


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize(
    ("truth", "prediction", "left"),
    [
        (PAIR, ndimage.binary_dilation(PAIR), 0),
        (PAIR, PAIR | block(slice(30, 31), slice(28, 32)), 1),
        (BLOCK, BLOCK & ~block(slice(30, 31), slice(8, 52)), 1),
        (BLOCK, BLOCK & ~block(slice(20, 24), slice(20, 24)), 16),
        (BLOCK, BLOCK, 0),
    ],
    ids=["dilation by a pixel", "bridge of 4", "cut of 44", "hole of 16", "equal"],
)
def test_only_what_no_warp_can_mend_is_left(
    truth: np.ndarray, prediction: np.ndarray, left: int, connectivity: int
) -> None:
    errors = topological_errors(prediction, truth, connectivity)
    assert errors.sum() == left
    assert not (errors & (prediction == truth)).any()
    assert warping_error(prediction, truth, connectivity) == left / 3600


def test_a_diagonal_touch_is_a_merger_only_where_corners_connect() -> None:
    truth = np.zeros((8, 8), bool)
    truth[1:3, 1:3] = truth[4:7, 4:7] = True
    prediction = truth.copy()
    prediction[3, 3] = True
    assert warping_error(prediction, truth, 8) > 0
    assert topological_errors(prediction, truth, 4).sum() == 1  # a speck of its own
    prediction[2, 3] = True
    assert topological_errors(prediction, truth, 4).sum() == 0
    assert topological_errors(prediction, truth, 8).sum() == 1


def pieces(image: np.ndarray, connectivity: int) -> int:
    return int(ndimage.label(image, ndimage.generate_binary_structure(2, connectivity // 4))[1])


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@settings(deadline=None, max_examples=60)
@given(foregrounds, foregrounds)
def test_warping_keeps_the_topology_and_stops_where_nothing_more_can_flip(
    connectivity: int, prediction: np.ndarray, truth: np.ndarray
) -> None:
    errors = topological_errors(prediction, truth, connectivity)
    assert not (errors & (prediction == truth)).any()
    warped = np.pad(prediction ^ errors, 1)
    before = np.pad(truth, 1)
    other = 12 - connectivity
    assert pieces(warped, connectivity) == pieces(before, connectivity)
    assert pieces(~warped, other) == pieces(~before, other)
    simple = _simple_neighbourhoods(connectivity)
    for row, column in np.argwhere(errors) + 1:
        code = sum(int(warped[row + a, column + b]) << k for k, (a, b) in enumerate(_RING))
        assert not simple[code]


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_a_point_is_simple_where_one_piece_of_each_class_touches_it(connectivity: int) -> None:
    # The definition by topological numbers, on all 256 neighbourhoods.
    edges = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=bool)
    corners = np.ones((3, 3), dtype=bool)
    for code, simple in enumerate(_simple_neighbourhoods(connectivity)):
        around = np.zeros((3, 3), dtype=bool)
        for k, (row, column) in enumerate(_RING):
            around[1 + row, 1 + column] = code >> k & 1
        background = ~around
        background[1, 1] = False
        touching = []
        for image, near in ((around, connectivity), (background, 12 - connectivity)):
            reach = edges if near == 4 else corners
            structure = ndimage.generate_binary_structure(2, near // 4)
            touching.append(len(set(ndimage.label(image, structure)[0][reach & image])))
        assert simple == (touching == [1, 1])


def test_a_probability_decides_at_one_half_and_the_surest_pixel_flips_first() -> None:
    truth = np.zeros((5, 8), bool)
    truth[1:4, 1:3] = truth[1:4, 5:7] = True
    prediction = truth.astype(float)
    prediction[2, 3:5] = 0.9, 0.7  # a bridge: one of its two pixels stays wrong
    assert np.argwhere(topological_errors(prediction, truth)).tolist() == [[2, 4]]
    prediction[2, 3:5] = 0.7, 0.9
    assert np.argwhere(topological_errors(prediction, truth)).tolist() == [[2, 3]]
    prediction[2, 3] = 0.5
    assert not topological_errors(prediction, truth).any()


def test_a_pixel_that_becomes_simple_waits_its_turn() -> None:
    truth = np.zeros((5, 10), bool)
    truth[1:4, 1:3] = truth[1:4, 7:9] = True
    prediction = truth.astype(float)
    prediction[2, 3:7] = 0.9, 0.6, 0.8, 0.7  # 0.8 gets its neighbour before 0.6 is looked at
    assert np.argwhere(topological_errors(prediction, truth)).tolist() == [[2, 4]]


def test_the_warping_error_refuses_what_it_cannot_measure() -> None:
    flat = np.ones((3, 3), bool)
    with pytest.raises(ValueError, match="connectivity must be 4 or 8, got 6"):
        warping_error(flat, flat, 6)
    with pytest.raises(ValueError, match="not 2D"):
        warping_error(np.ones((3, 3, 3), bool), np.ones((3, 3, 3), bool))
    with pytest.raises(ValueError, match="not 2D"):
        warping_error(flat, np.ones((3, 4), bool))


# The pixel error.


@given(foregrounds, foregrounds)
def test_the_pixel_error_is_one_minus_the_f_score(
    prediction: np.ndarray, truth: np.ndarray
) -> None:
    hits = int((prediction & truth).sum())
    found = pixel_error(prediction, truth)
    if not hits:
        assert found == (1.0 if prediction.any() or truth.any() else 0.0)
        return
    precision, recall = hits / prediction.sum(), hits / truth.sum()
    assert found == pytest.approx(1 - 2 * precision * recall / (precision + recall))


def test_the_pixel_error_of_a_perfect_segmentation_is_0() -> None:
    assert pixel_error(BLOCK, BLOCK) == 0
    with pytest.raises(ValueError, match="for a truth of"):
        pixel_error(BLOCK, BLOCK[1:])


@pytest.mark.parametrize("seed", range(5))
def test_the_scores_are_scikit_images_but_for_pairs_of_a_pixel_with_itself(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = ndimage.zoom(rng.integers(1, 9, (8, 8)), 8, order=0)
    prediction = np.roll(truth, rng.integers(1, 5, 2), axis=(0, 1))
    error, precision, recall = adapted_rand_error(truth, prediction)
    ours = v_rand(prediction, truth)
    assert ours.f_score == pytest.approx(1 - error, abs=0.005)
    assert sorted([ours.split, ours.merge]) == pytest.approx(sorted([precision, recall]), abs=0.005)
    over, under = variation_of_information(truth, prediction)  # H(S|T) and H(T|S), in bits
    information = v_info(prediction, truth)
    assert information.split == pytest.approx(1 - over / shannon_entropy(prediction))
    assert information.merge == pytest.approx(1 - under / shannon_entropy(truth))
