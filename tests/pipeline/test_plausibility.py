"""What a mask's shape tells, and no more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import measure

from nestseg.batch.states import Flag
from nestseg.outputs.plausibility import (
    Expected,
    expectations,
    flags,
    uncertainty_limit,
    unlike_training,
)
from nestseg.outputs.volumetry import Sizes, sizes, volumes_ml
from nestseg_prep.errors import InputError
from nestseg_prep.volume import Volume

LABELS = {1: "liver", 2: "spleen"}


def mask(shape=(20, 22, 24), spacing=(1.0, 1.0, 2.0), **boxes) -> Volume:
    array = np.zeros(shape, np.uint8, order="F")
    for value, places in boxes.items():
        for place in places:
            array[place] = int(value[1:])
    return Volume(array, np.diag([*spacing, 1.0]))


def box(*ends: tuple[int, int]) -> tuple[slice, ...]:
    return tuple(slice(*end) for end in ends)


LIVER = box((2, 12), (2, 12), (2, 12))
SPLEEN = box((14, 18), (14, 18), (14, 18))


def codes(*args) -> list[tuple[str, str]]:
    return [(flag.code, flag.label) for flag in flags(*args)]


def test_nothing_is_said_of_whole_structures_inside_the_image() -> None:
    assert flags(mask(v1=[LIVER], v2=[SPLEEN]), LABELS) == ()


def test_a_label_without_voxels_is_empty() -> None:
    assert flags(mask(v1=[LIVER]), LABELS) == (Flag("empty", "no spleen was found", "spleen"),)
    assert codes(mask(), LABELS) == [("empty", "liver"), ("empty", "spleen")]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("end", [0, -1])
def test_one_voxel_in_the_outermost_plane_touches_the_border(axis: int, end: int) -> None:
    volume = mask(v1=[LIVER], v2=[SPLEEN])
    index = [15, 15, 15]
    for step in range(20):
        index[axis] = step if end == 0 else volume.shape[axis] - 1 - step
        if volume.array[tuple(index)] == 2:
            break
        volume.array[tuple(index)] = 2
    assert codes(volume, LABELS) == [("touches-border", "spleen")]
    index[axis] = 0 if end == 0 else volume.shape[axis] - 1
    volume.array[tuple(index)] = 0
    assert codes(volume, LABELS) == []


def test_pieces_are_counted_without_specks() -> None:
    other = box((14, 17), (2, 5), (2, 5))  # 27 voxels beside 1000
    (flag,) = flags(mask(v1=[LIVER, other], v2=[SPLEEN]), LABELS)
    assert flag == Flag("several-pieces", "liver is in 2 pieces, the largest holds 97 %", "liver")
    speck = box((14, 16), (2, 4), (2, 4))  # 8 of 1008 voxels
    assert codes(mask(v1=[LIVER, speck], v2=[SPLEEN]), LABELS) == []
    corner = box((12, 15), (12, 15), (12, 15))  # shares a corner
    assert codes(mask(v1=[LIVER, corner], v2=[box((14, 18), (2, 6), (2, 6))]), LABELS) == []


def test_pieces_beyond_what_is_expected() -> None:
    volume = mask(v1=[LIVER, box((14, 18), (2, 6), (2, 6))], v2=[SPLEEN])
    assert codes(volume, LABELS, {1: Expected(pieces=2)}) == []
    assert codes(volume, LABELS, {1: Expected(pieces=None)}) == []
    assert codes(volume, LABELS, {2: Expected(pieces=5)}) == [("several-pieces", "liver")]


def test_volumes_outside_of_what_is_expected() -> None:
    volume = mask(v1=[LIVER], v2=[SPLEEN])  # 1000 voxels of 2 mm³
    assert codes(volume, LABELS, {1: Expected(volume_ml=(2.0, 2.0))}) == []
    (flag,) = flags(volume, LABELS, {1: Expected(volume_ml=(900, 2400))})
    assert flag == Flag("volume-low", "liver has 2 ml, expected are 900 to 2400 ml", "liver")
    assert codes(volume, LABELS, {1: Expected(volume_ml=(0.1, 1.9))}) == [("volume-high", "liver")]


def test_a_picture_is_judged_by_what_is_found_in_it_alone() -> None:
    picture = mask((20, 20, 1), v1=[box((0, 3), (0, 3), (0, 1)), box((9, 13), (9, 13), (0, 1))])
    assert codes(picture, LABELS) == [("empty", "spleen")]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from((0.05, 0.2, 0.6)))
def test_pieces_are_those_of_another_library(seed: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    array = (rng.random((9, 8, 7)) < density).astype(np.uint8)
    pieces = np.bincount(measure.label(array, connectivity=3).ravel())[1:]
    expected = int((pieces >= 0.01 * array.sum()).sum())
    found = [f for f in flags(Volume(array, np.eye(4)), {1: "x"}) if f.code == "several-pieces"]
    if expected > 1:
        assert f" {expected} pieces" in found[0].sentence
    else:
        assert not found


def test_what_the_metadata_expect() -> None:
    told = {"plausibility": {"1": {"pieces": 2, "volume_ml": [1, 3]}, "2": {"pieces": None}}}
    assert expectations(told) == {1: Expected(2, (1.0, 3.0)), 2: Expected(None, None)}
    assert expectations({}) == {}
    for wrong in ({"1": 3}, {"one": {}}, {"1": {"volume_ml": [1]}}, [1]):
        with pytest.raises(InputError, match="plausibility"):
            expectations({"plausibility": wrong})


def test_volumes_count_every_voxel() -> None:
    rng = np.random.default_rng(0)
    array = rng.integers(0, 300, (7, 8, 9)).astype(np.uint16)
    volume = Volume(array, np.diag([-2.0, 1.0, 0.5, 1.0]))
    labels = {value: f"label {value}" for value in range(1, 250)}
    expected = {
        name: round(float((array == value).sum()) / 1000, 4) for value, name in labels.items()
    }
    assert volumes_ml(volume, labels) == pytest.approx(expected)


def picture(pages: int = 1, pixel_mm: tuple[float, float] | None = None) -> Volume:
    """1,755 pixels of the first label on each page, none of the second."""
    array = np.zeros((60, 50, pages), np.uint8)
    array[:39, :45] = 1
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    return Volume(array, affine, is_picture=True, pixel_mm=pixel_mm)


def test_pictures_are_counted_in_pixels_and_never_in_millilitres() -> None:
    assert sizes(picture(), LABELS) == Sizes(pixels={"liver": 1755, "spleen": 0})
    assert sizes(picture(), LABELS).measured == ("pixels", {"liver": 1755, "spleen": 0})
    assert sizes(picture(3), LABELS).pixels["liver"] == 3 * 1755
    assert volumes_ml(picture(), LABELS) == {}


def test_pictures_with_a_pixel_size_have_areas() -> None:
    found = sizes(picture(pixel_mm=(0.0005, 0.00025)), LABELS)
    assert found.volumes_ml == {}
    assert found.areas_mm2["liver"] == pytest.approx(1755 * 0.0005 * 0.00025, rel=1e-5)
    assert found.measured == ("mm²", found.areas_mm2)
    several_pages = sizes(picture(2, pixel_mm=(0.0005, 0.0005)), LABELS)
    assert several_pages == Sizes(pixels={"liver": 3510, "spleen": 0})


def test_no_volume_is_expected_of_a_picture() -> None:
    expected = {1: Expected(volume_ml=(900, 2400))}
    assert codes(picture(), LABELS, expected) == [("empty", "spleen")]


def test_a_case_less_certain_than_any_validation_case_is_unlike_training() -> None:
    assert unlike_training(0.024, 0.024) == ()
    (flag,) = unlike_training(0.176, 0.024)
    assert (flag.code, flag.label) == ("unlike-training", "")
    assert "uncertainty 0.18, at most 0.024" in flag.sentence
    assert unlike_training(None, 0.024) == unlike_training(0.9, None) == ()


def test_the_largest_uncertainty_in_the_metadata() -> None:
    assert uncertainty_limit({}) is None
    assert uncertainty_limit({"uncertainty_at_most": None}) is None
    assert uncertainty_limit({"uncertainty_at_most": 0}) == 0.0
    for wrong in ("0.02", True, -0.1, 1.5, float("nan"), [0.02]):
        with pytest.raises(InputError, match="uncertainty_at_most"):
            uncertainty_limit({"uncertainty_at_most": wrong})
