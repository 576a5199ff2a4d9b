"""A small data set and a small input folder for the bundles' workflows."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from nestseg.bundle import locate
from nestseg.bundle.info import read_info
from nestseg.pruning import candidates, card
from nestseg.pruning.choice import Choice, Level, Rule
from nestseg.pruning.record import Record, Scoring, Source, Timing
from nestseg_prep.dicom.scan import scan
from nestseg_prep.nifti import read_nifti, write_nifti
from nestseg_prep.picture import write_picture
from nestseg_prep.volume import Volume
from tests.opened import opened


@pytest.fixture
def schemas(shared_data: Path) -> Path:
    """MONAI's metadata schema, for checks without the internet."""
    folder = shared_data.parent / "schemas"
    if not folder.is_dir():
        pytest.skip("MONAI's metadata schema is not here")
    return folder


@pytest.fixture(scope="session")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six labelled volumes that a network can learn from: a bright and a dark ball."""
    root = tmp_path_factory.mktemp("balls")
    split: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for number, name in enumerate(["train"] * 4 + ["val", "test"]):
        rng = np.random.default_rng(number)
        grid = np.indices((32, 48, 32))
        label = np.zeros((32, 48, 32), np.uint8)
        for value, centre in ((1, (16, 30, 16)), (2, (16, 16, 16))):
            offset = np.array(centre) + rng.integers(-3, 4, 3)
            label[((grid - offset[:, None, None, None]) ** 2).sum(0) < 36] = value
        image = ndimage.gaussian_filter(np.array([100, 200, 20])[label].astype(np.float32), 0.7)
        image += rng.normal(0, 5, image.shape).astype(np.float32)
        for folder, array in (("images", image), ("labels", label)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            write_nifti(Volume(array, np.eye(4)), root / folder / f"case_{number}.nii.gz")
        split[name].append(f"case_{number}.nii.gz")
    (root / "index.json").write_text(json.dumps({"split": split}))
    return root


@pytest.fixture
def data_set(balls: Path, tmp_path: Path) -> Path:
    """The labelled volumes, for the test to change."""
    return Path(shutil.copytree(balls, tmp_path / "data"))


@pytest.fixture
def image_folder(data_set: Path) -> Path:
    """NIfTI images alone."""
    return data_set / "images"


@pytest.fixture
def picture_set(tmp_path: Path) -> Path:
    """Five labelled pictures of bright discs, each with its number in the label."""
    root = tmp_path / "pictures"
    split: dict[str, list[str]] = {"train": [], "val": []}
    for number, name in enumerate(["train"] * 4 + ["val"]):
        rng = np.random.default_rng(number)
        columns, rows = np.indices((160, 96))
        label = np.zeros((160, 96), np.uint8)
        for value in range(1, 7):
            x, y = rng.integers(10, (150, 86))
            label[(columns - x) ** 2 + (rows - y) ** 2 < 64] = value
        image = np.where(label > 0, 180, 40) + rng.normal(0, 10, label.shape)
        for folder, array in (("images", image.clip(0, 255)), ("labels", label)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            picture = Volume(array.astype(np.uint8)[..., None], np.eye(4))
            write_picture(picture, root / folder / f"case_{number}.png")
        split[name].append(f"case_{number}.png")
    (root / "index.json").write_text(json.dumps({"split": split}))
    return root


@pytest.fixture
def trunk_set(data_set: Path) -> Path:
    """The data set's first volume under the names that the trunk bundle reads."""
    for folder, name in (("images", "example_ct"), ("labels", "example_seg_fast_force_split")):
        volume = read_nifti(data_set / folder / "case_0.nii.gz")
        target = data_set / ("labels" if folder == "labels" else ".") / f"{name}.nii.gz"
        spaced = np.diag([5.0, 5.0, 5.0, 1.0])
        write_nifti(Volume(volume.array, spaced), target)
    return data_set


@pytest.fixture
def coarse_set(data_set: Path) -> Path:
    """The labelled volumes with voxels of 5 mm, as large as a part of the body."""
    for path in data_set.glob("*/*.nii.gz"):
        write_nifti(Volume(read_nifti(path).array, np.diag([5.0, 5.0, 5.0, 1.0])), path)
    return data_set


@pytest.fixture
def fitting_data(request: pytest.FixtureRequest) -> Callable[[Path], tuple[Path, Path]]:
    """For a bundle: a small data set that it can train on, and a folder of images that it takes."""

    def choose(bundle: Path) -> tuple[Path, Path]:
        metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
        if metadata["data_type"] == "png":
            root: Path = request.getfixturevalue("picture_set")
            return root, root / "images"
        if bundle.name.startswith("ct_trunk"):
            root = request.getfixturevalue("trunk_set")
            return root, root
        root = request.getfixturevalue("data_set")
        series = scan(root / "images").series
        if not any(one.taken for one in read_info(bundle).selection.decide(series)):
            root = request.getfixturevalue("coarse_set")
        return root, root / "images"

    return choose


@pytest.fixture(scope="session")
def pruned_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hippocampus at level 2, with a card; its figures are invented, all else is real."""
    source = locate.find("hippocampus_unetpp")
    folder = tmp_path_factory.mktemp("pruned") / "hippocampus_small"
    candidates.write_level(source, candidates.prunable_network(source), 2, folder)
    full, small = opened(source), opened(folder)
    levels = tuple(
        Level(level, 1000 * level, 4000 * level, 0.8, {}, 0.9, 1.0, 0, 10.0, 50.0)
        for level in (1, 2, 3)
    )
    record = Record(
        source=Source(source.name, full.info.version, full.info.weights_sha256),
        weights_sha256=small.info.weights_sha256,
        scoring=Scoring("00" * 32, 1, (), 1.0),
        timing=Timing(1, 1, "peak", {"processor": "any", "device": "cpu", "threads": 1}),
        levels=levels,
        rule=Rule(0.01),
        chosen=Choice(2, "for the test"),
        nestseg="0.1.0",
        finished="2026-01-01T00:00:00+00:00",
    )
    card.write_card(folder, folder.name, record)
    return folder
