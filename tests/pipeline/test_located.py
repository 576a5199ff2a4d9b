"""Locate, then segment: a bundle that knows crops takes whole scans through another bundle."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nestseg.bundle import locate, trust
from nestseg.bundle.info import read_info
from nestseg.bundle.locator import boxes
from nestseg.bundle.options import SegmentOptions
from nestseg.outputs.plausibility import flags
from nestseg_prep.errors import InputError
from nestseg_prep.nifti import read_nifti, write_nifti
from nestseg_prep.volume import Volume
from tests.opened import opened
from tests.pipeline.brightness import ByBrightness

SHAPE = (52, 44, 36)
BALLS = ((14, 20, 16), (38, 22, 18))
"""Centres of the left and the right ball."""
LOCATED = {
    "_target_": "nestseg.bundle.located.LocatedInferer",
    "roi_size": "@roi_size",
    "overlap": "@overlap",
    "locator": "@locator",
    "intensity": "@intensity",
}


def make(folder: Path, centres: list[float], **changes: Any) -> Path:
    """A bundle whose network knows brightness; with a ``locator``, in what that finds."""
    shutil.copytree(locate.find("hippocampus_unetpp") / "configs", folder / "configs")
    path = folder / "configs" / "inference.json"
    config = json.loads(path.read_text())
    if "locator" in changes:
        config["preprocessing"]["transforms"] = "$@hide_path + @load"
        config["inferer"] = LOCATED
    config |= changes
    config["network_def"] = {
        "_target_": "tests.pipeline.brightness.ByBrightness",
        "centres": centres,
    }
    path.write_text(json.dumps(config))
    (folder / "models").mkdir()
    torch.save(ByBrightness(centres).state_dict(), folder / "models" / "model.pt")
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that finds two balls, and in each a shell and a core."""
    home = tmp_path_factory.mktemp("located")
    locator = make(home / "balls", [0.0, 1050.0, 2050.0], intensity=[])
    metadata = locator / "configs" / "metadata.json"
    facts = json.loads(metadata.read_text())
    names = {"0": "background", "1": "dark ball", "2": "bright ball"}
    facts["network_data_format"]["outputs"]["pred"]["channel_def"] = names
    metadata.write_text(json.dumps(facts))
    fine = make(
        home / "shells",
        [0.0, 0.93, 1.0],
        selection={"_target_": "nestseg_prep.selection.Selection", "modalities": ["MR"]},
        intensity=[{"_target_": "ScaleIntensityd", "keys": "image"}],  # of the box, not the scan
        locator={
            "bundle": str(locator),
            "margin_mm": 3,
            "regions": {"left": "dark ball", "right": "bright ball"},
        },
    )
    for one in (locator, fine):
        trust.remember(one)
    return fine


def truth() -> np.ndarray:
    """The labels of the two balls: shells and cores, first on the left."""
    grid = np.indices(SHAPE)
    labels = np.zeros(SHAPE, np.uint8)
    for side, centre in enumerate(BALLS):
        away = np.sqrt(((grid - np.reshape(centre, (3, 1, 1, 1))) ** 2).sum(0))
        labels[away < 7] = 1 + 2 * side
        labels[away < 4] = 2 + 2 * side
    return labels


def scan(affine: np.ndarray, labels: np.ndarray) -> Volume:
    """The image of some labels, and a speck as bright as the core of the left ball."""
    image = np.array([0, 1000, 1100, 2000, 2100], np.float32)[labels]
    image[26:28, 2:4, 2:4] = 1100
    return Volume(image, affine)


def turned(axes: tuple[int, ...], signs: tuple[int, ...], degrees: float) -> np.ndarray:
    """An affine of 1 mm: axes in another order and direction, all turned about an odd axis."""
    order = np.zeros((3, 3))
    order[axes, range(3)] = signs
    axis = np.array([1.0, 2.0, 3.0]) / np.sqrt(14)
    cross = np.cross(np.eye(3), axis)
    angle = np.radians(degrees)
    turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    affine = np.eye(4)
    affine[:3, :3] = turn @ order
    affine[:3, 3] = (17.0, -31.0, 8.0)
    return affine


@pytest.mark.parametrize(
    ("axes", "signs", "degrees"),
    [((0, 1, 2), (1, 1, 1), 0), ((2, 0, 1), (-1, 1, -1), 0), ((1, 2, 0), (1, -1, -1), 17)],
)
def test_masks_are_pasted_on_the_voxels_of_the_scan_in_any_orientation(
    bundle: Path, axes: tuple[int, ...], signs: tuple[int, ...], degrees: float
) -> None:
    labels = truth().transpose(axes)[tuple(slice(None, None, sign) for sign in signs)]
    affine = turned(axes, signs, degrees)
    found = opened(bundle).predict(scan(affine, labels))
    np.testing.assert_array_equal(found.mask.array, labels)
    np.testing.assert_array_equal(found.mask.affine, affine)


def test_a_scan_of_unequal_spacing_gets_its_masks_within_a_voxel(bundle: Path) -> None:
    labels = truth()[:, ::2]
    affine = np.diag([-1.0, 2.0, 1.0, 1.0])
    found = opened(bundle).predict(scan(affine, labels)).mask.array
    for value in range(1, 5):
        both = np.sum((found == value) & (labels == value))
        assert 2 * both / (np.sum(found == value) + np.sum(labels == value)) > 0.75


def test_each_region_has_labels_and_expectations_of_its_own(bundle: Path) -> None:
    info = read_info(bundle)
    assert info.labels == {
        1: "left anterior hippocampus",
        2: "left posterior hippocampus",
        3: "right anterior hippocampus",
        4: "right posterior hippocampus",
    }
    assert info.expected[3] == info.expected[1]
    assert info.expected[4] == info.expected[2]


def test_a_case_says_which_regions_were_not_found(bundle: Path) -> None:
    there = opened(bundle)
    labels = truth()
    labels[labels > 2] = 0
    mask = there.predict(scan(np.eye(4), labels)).mask
    np.testing.assert_array_equal(mask.array, labels)
    missing = [
        one.label
        for one in flags(mask, there.info.labels, there.info.expected)
        if one.code == "empty"
    ]
    assert missing == ["right anterior hippocampus", "right posterior hippocampus"]
    nothing = there.predict(Volume(np.zeros(SHAPE, np.float32), np.eye(4)))
    assert not nothing.mask.array.any()


def test_options_reach_the_network_in_its_boxes(bundle: Path) -> None:
    there = opened(bundle)
    options = SegmentOptions(save_probabilities=True, gentle=True)
    found = there.predict(scan(np.eye(4), truth()), options)
    probabilities = {value: volume.array for value, volume in found.probabilities()}
    assert list(probabilities) == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(found.mask.array, truth())
    assert probabilities[0][0, 0, 0] == 65535
    assert "to save memory" in found.notes[-1]


@pytest.mark.slow
def test_monai_gives_the_same_mask(bundle: Path, tmp_path: Path) -> None:
    volume = scan(turned((2, 0, 1), (-1, 1, -1), 17), truth().transpose(2, 0, 1))
    (tmp_path / "in").mkdir()
    write_nifti(volume, tmp_path / "in" / "head.nii.gz")
    words = ("run", "--config_file", bundle / "configs" / "inference.json", "--bundle_root", bundle)
    folders = ("--dataset_dir", tmp_path / "in", "--output_dir", tmp_path / "out")
    command = [sys.executable, "-m", "monai.bundle", *words, *folders]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(list(map(str, command)), check=True, env=environment)
    (written,) = (tmp_path / "out").rglob("*.nii.gz")
    ours = opened(bundle).predict(volume).mask
    np.testing.assert_array_equal(read_nifti(written).array, ours.array)
    assert ours.array.any()


@pytest.mark.parametrize(
    "entry",
    [
        {"bundle": "x", "margin_mm": -1, "regions": {"left": "a"}},
        {"bundle": "x", "margin_mm": 1, "regions": {}},
        {"bundle": "x", "margin_mm": 1, "regions": {"left": "a"}, "labels": []},
        ["x"],
    ],
)
def test_a_damaged_locator_is_one_clear_line(tmp_path: Path, entry: Any) -> None:
    folder = make(tmp_path / "bad", [0.0, 1.0, 2.0], locator=entry)
    with pytest.raises(InputError, match=r"^bad: `locator` of its config must hold"):
        read_info(folder)


def test_a_label_that_the_locator_lacks_is_named(bundle: Path, tmp_path: Path) -> None:
    entry = json.loads((bundle / "configs" / "inference.json").read_text())["locator"]
    regions = {"left": "square", "right": "bright ball"}
    folder = make(
        tmp_path / "odd",
        [0.0, 1.0, 2.0],
        locator=entry | {"regions": regions},
    )
    with pytest.raises(InputError, match="balls: has no label `square` to look for"):
        opened(folder).predict(scan(np.eye(4), truth()))


@pytest.mark.parametrize(("axes", "signs"), [((0, 1, 2), (1, 1, 1)), ((2, 0, 1), (-1, 1, -1))])
def test_two_regions_of_one_label_are_its_left_and_its_right_piece(
    bundle: Path, tmp_path: Path, axes: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    entry = json.loads((bundle / "configs" / "inference.json").read_text())["locator"]
    locator = make(tmp_path / "either", [0.0, 1550.0, 9e4], intensity=[])
    trust.remember(locator)
    regions = dict.fromkeys(("left", "right"), "anterior hippocampus")
    folder = shutil.copytree(bundle, tmp_path / "fine")
    path = folder / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["locator"] = entry | {"bundle": str(locator), "regions": regions}
    path.write_text(json.dumps(config))
    labels = truth().transpose(axes)[tuple(slice(None, None, sign) for sign in signs)]
    affine = turned(axes, signs, 0)
    there = opened(folder)
    np.testing.assert_array_equal(there.predict(scan(affine, labels)).mask.array, labels)
    for side in ((1, 2), (3, 4)):  # of a single one, the rest of the head tells the side
        one = np.where(np.isin(labels, side), labels, 0)
        image = scan(affine, one)
        image.array[...] += np.where(labels > 0, 300, 0).astype(np.float32) * (one == 0)
        np.testing.assert_array_equal(there.predict(image).mask.array, one)


@given(
    places=st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 11), st.integers(0, 7)), min_size=1, max_size=12
    ),
    margin=st.integers(0, 12),
    spacing=st.tuples(*[st.floats(0.3, 5)] * 3),
)
def test_a_box_holds_one_piece_with_its_margin_and_stays_in_the_image(
    places: list[tuple[int, int, int]], margin: int, spacing: tuple[float, ...]
) -> None:
    array = np.zeros((10, 12, 8), np.uint8)
    array[tuple(np.transpose(places))] = 3
    mask = Volume(array, np.diag([*spacing, 1.0]))
    found, nothing = boxes(mask, [3, 4], margin, 0)
    (tight,) = boxes(mask, [3], 0, 0)
    assert nothing is None
    assert found is not None
    assert tight is not None
    assert (array[tight] == 3).any()
    for side, inner, mm, size in zip(found, tight, spacing, array.shape, strict=True):
        assert 0 <= side.start <= inner.start < inner.stop <= side.stop <= size
        assert side.start == 0 or (inner.start - side.start) * mm >= margin
        assert side.stop == size or (side.stop - inner.stop) * mm >= margin
