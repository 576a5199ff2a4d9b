"""The border weight map against the paper's formula, computed the slow way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from nestseg_prep.weight_map import border_weight, class_balance, separate_touching, weight_map


def by_the_formula(instances: np.ndarray, w0: float = 10.0, sigma: float = 5.0) -> np.ndarray:
    """Every distance to every cell, over the whole image."""
    distances = [ndimage.distance_transform_edt(instances != k) for k in np.unique(instances) if k]
    if len(distances) < 2:
        return np.zeros(instances.shape)
    d1, d2 = np.sort(distances, axis=0)[:2]
    return np.where(instances == 0, w0 * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2)), 0)


def cells(shape: tuple[int, ...], number: int, seed: int) -> np.ndarray:
    """Balls of random size and place; later ones lie over earlier ones; numbers leave gaps."""
    random = np.random.default_rng(seed)
    instances = np.zeros(shape, dtype=np.int32)
    for k in range(number):
        centre = random.uniform(0, shape).reshape(-1, *(1,) * len(shape))
        away = np.sqrt(((np.indices(shape) - centre) ** 2).sum(axis=0))
        instances[away < random.uniform(2, 7)] = 3 * k + 2
    return instances


def two_cells(gap: int) -> np.ndarray:
    instances = np.zeros((9, 30 + gap), dtype=np.int64)
    instances[:, :15] = 1
    instances[:, 15 + gap :] = 2
    return instances


def test_a_gap_of_one_pixel_weighs_what_the_formula_says() -> None:
    # Both borders are 1 pixel away: 10 exp(-(1 + 1)² / (2 · 5²))
    assert border_weight(two_cells(1))[4, 15] == pytest.approx(9.23116, abs=1e-5)


def test_a_single_cell_has_no_border_weight() -> None:
    assert not border_weight((two_cells(3) == 1).astype(int)).any()


def test_an_empty_image_has_no_border_weight() -> None:
    empty = np.zeros((4, 5), dtype=int)
    assert not border_weight(empty).any()
    np.testing.assert_array_equal(weight_map(empty), 1.0)


@pytest.mark.parametrize("shape", [(60, 47), (24, 20, 22)])
@pytest.mark.parametrize("number", [8, 20])
@pytest.mark.parametrize(("w0", "sigma"), [(10.0, 5.0), (3.0, 1.5)])
def test_boxes_around_cells_give_the_formula(
    shape: tuple[int, ...], number: int, w0: float, sigma: float
) -> None:
    instances = cells(shape, number, seed=number)
    expected = by_the_formula(instances, w0, sigma)
    np.testing.assert_allclose(border_weight(instances, w0=w0, sigma=sigma), expected, atol=1.01e-4)
    assert expected.max() > 0.1


def test_numbers_of_instances_do_not_matter() -> None:
    instances = cells((40, 40), 6, seed=1)
    renamed = np.where(instances, instances.max() + 1_000_000_000 - instances.astype(np.int64), 0)
    np.testing.assert_array_equal(border_weight(instances), border_weight(renamed))


def test_an_image_without_background_is_all_cells() -> None:
    halves = np.repeat([[1, 2]], 4, axis=0)
    assert not border_weight(halves).any()


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_class_balance_has_mean_one_and_equal_totals(labels: list[int]) -> None:
    weights = class_balance(np.array(labels))
    assert weights.mean() == pytest.approx(1, rel=1e-5)
    totals = [weights[np.array(labels) == value].sum() for value in set(labels)]
    np.testing.assert_allclose(totals, len(labels) / len(totals), rtol=1e-5)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([(17, 12), (8, 7, 9)]))
def test_separated_cells_do_not_touch(seed: int, shape: tuple[int, ...]) -> None:
    instances = cells(shape, 5, seed)
    apart = separate_touching(instances)
    assert set(apart[apart != instances]) <= {0}
    for offset in np.ndindex((3,) * len(shape)):
        shifted = apart[tuple(slice(o, n - 2 + o) for o, n in zip(offset, shape, strict=True))]
        middle = apart[tuple(slice(1, n - 1) for n in shape)]
        assert not ((shifted != middle) & (shifted != 0) & (middle != 0)).any()


def test_cells_apart_are_left_alone_and_touching_ones_get_one_pixel() -> None:
    np.testing.assert_array_equal(separate_touching(two_cells(1)), two_cells(1))
    assert (separate_touching(two_cells(0)) == 0).sum(axis=1).tolist() == [1] * 9


def test_the_whole_map_is_the_sum_of_its_terms() -> None:
    instances = two_cells(1)
    balance = class_balance((instances != 0).astype(int))
    np.testing.assert_array_equal(weight_map(instances), balance + border_weight(instances))
