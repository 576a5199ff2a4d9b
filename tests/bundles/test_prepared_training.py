"""`nestseg prepare --bundle`: the training set of a recipe, and training from it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.utils import set_determinism
from scipy import ndimage

from nestseg.bundle import locate, recipe
from nestseg.cli import main
from nestseg.cli.prepare_training import run
from nestseg_prep.errors import InputError
from nestseg_prep.nifti import write_nifti
from nestseg_prep.padding import mirror_pad
from nestseg_prep.prepared import read_record
from nestseg_prep.volume import Volume
from nestseg_prep.weight_map import class_balance, separate_touching, weight_map

BUNDLES = recipe.recipes(locate.home())


def training_set(bundle: Path, data_set: Path, prepared_dir: Path | None) -> Any:
    """The training set of a bundle, seeded as in a run."""
    parser = ConfigParser(json.loads((bundle / "configs" / "train.json").read_text()))
    parser.update({"dataset_dir": str(data_set)})
    parser["prepared_dir"] = prepared_dir and str(prepared_dir)
    set_determinism(seed=0)
    try:
        return parser.get_parsed_content("train#dataset")
    finally:
        set_determinism(seed=None)


def assert_equal_samples(one: Any, other: Any) -> None:
    for a, b in zip(*(s if isinstance(s, list) else [s] for s in (one, other)), strict=True):
        assert a.keys() == b.keys()
        for key in ("image", "label"):
            assert a[key].dtype == b[key].dtype
            assert torch.equal(a[key], b[key])


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three pictures of cells as NIfTI files of one slice, with a number for each cell."""
    root = tmp_path / "pictures"
    names = []
    for number in range(3):
        rng = np.random.default_rng(number)
        shape = (50, 44 + 3 * number)
        seeds = np.zeros(shape, bool)
        seeds[tuple(rng.integers(4, 40, (2, 7)))] = True
        cells, _ = ndimage.label(ndimage.binary_dilation(seeds, iterations=4))
        image = 100.0 + 60 * (cells > 0) + rng.normal(0, 5, shape)
        name = f"picture_{number}.nii.gz"
        for folder, array in (("images", image.astype(np.float32)), ("labels", cells)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            volume = Volume(array[..., None].astype(np.float32), np.eye(4))
            write_nifti(volume, root / folder / name)
        names.append(name)
    split = {"train": names[:2], "val": names[2:], "test": []}
    (root / "index.json").write_text(json.dumps({"split": split}))
    return root


@pytest.fixture
def valid_bundle(tmp_path: Path) -> Path:
    """The recipe of 2015 on patches that are cut beforehand: margin, weight map, valid targets."""
    home = tmp_path / "bundles"
    shutil.copytree(locate.home() / recipe.PARTS, home / recipe.PARTS)
    bundle = home / "cells_valid_unet"
    bundle.mkdir()
    parts = ["load_pictures", "network_2d", "picture_intensity", "slicewise", "train"]
    override = {
        "network_def": {
            "_target_": "nestseg.networks.GridUNet",
            "spatial_dims": 2,
            "in_channels": 1,
            "out_channels": "@out_channels",
            "features": [4, 8, 16],
            "padding": "valid",
        },
        "loss": {"_target_": "nestseg.losses.BorderWeightedCELoss"},
        "keys": ["image", "label"],
        "fit": [
            {"_target_": "SqueezeDimd", "keys": "@keys", "dim": -1, "update_meta": False},
            {"_target_": "nestseg_prep.transforms.BorderWeightd", "keys": "label"},
            {
                "_target_": "nestseg_prep.transforms.GridPatchesd",
                "keys": "image",
                "label_keys": "label",
                "geometry": "$@network_def.geometry",
                "size": [20, 20],
            },
        ],
        "augment": [
            {"_target_": "RandFlipd", "keys": "@keys", "prob": 0.5, "spatial_axis": 0},
            {"_target_": "EnsureTyped", "keys": "@keys", "track_meta": False},
        ],
    }
    rule = {"train": {"parts": parts, "override": override}, "inference": {"parts": parts[:1]}}
    (bundle / recipe.RECIPE).write_text(json.dumps(rule))
    recipe.write(bundle)
    return bundle


def test_there_are_volumes_pictures_patches_and_valid_networks_among_the_bundles() -> None:
    assert {"hippocampus_unetpp", "nuclei_unet", "em_unet", "em_window"} <= {
        bundle.name for bundle in BUNDLES
    }


def test_every_bundle_trains_from_a_prepared_set() -> None:
    for bundle in BUNDLES:
        config = json.loads((bundle / "configs" / "train.json").read_text())
        assert config["train"]["dataset"]["prepared_dir"] == "@prepared_dir", bundle.name
        assert config["prepared_dir"] is None


@pytest.mark.parametrize("name", ["nuclei_unet", "em_unet", "em_window"])
def test_prepared_samples_of_pictures_are_those_made_on_the_fly(
    name: str, pictures: Path, tmp_path: Path
) -> None:
    assert_prepared_equals_on_the_fly(locate.find(name), pictures, tmp_path / "out")


def test_prepared_samples_of_volumes_are_those_made_on_the_fly(
    data_set: Path, tmp_path: Path
) -> None:
    assert_prepared_equals_on_the_fly(locate.find("hippocampus_unetpp"), data_set, tmp_path / "out")


def test_prepared_patches_are_those_made_on_the_fly(
    valid_bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    assert_prepared_equals_on_the_fly(valid_bundle, pictures, tmp_path / "out")


def assert_prepared_equals_on_the_fly(bundle: Path, data: Path, out: Path) -> None:
    assert run(data, str(bundle), out) == 0
    # One after the other: a bundle's transforms draw from generators of their own.
    samples = []
    for prepared_dir in (None, out):
        made = training_set(bundle, data, prepared_dir)
        samples.append([made[i] for _ in range(2) for i in range(len(made))])
    assert len(samples[0]) == len(samples[1]) > 0
    for one, other in zip(*samples, strict=True):
        assert_equal_samples(one, other)


def test_the_recipe_of_2015_gets_mirrored_patches_weights_and_valid_targets(
    valid_bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    assert run(pictures, str(valid_bundle), tmp_path / "out") == 0
    made = training_set(valid_bundle, pictures, tmp_path / "out")
    network = ConfigParser(
        json.loads((valid_bundle / "configs" / "train.json").read_text())
    ).get_parsed_content("network")
    (margin, _), (target_size, _) = network.geometry.margin, made[0]["label"].shape[1:]
    assert margin == 40
    for number, entry in enumerate(read_record(tmp_path / "out")["cases"]):
        name = f"picture_{number}.nii.gz"
        cells, image = (read_slice(pictures / folder / name) for folder in ("labels", "images"))
        cells = separate_touching(cells.astype(np.int64))
        low, high = np.percentile(image, [0.5, 99.5])
        image = (np.clip(image, low, high) - low) / (high - low)
        image = (image - image.mean()) / image.std()
        grid = [-(-n // target_size) for n in cells.shape]
        assert entry["samples"] == np.prod(grid)
        over = [(0, k * target_size - n) for k, n in zip(grid, cells.shape, strict=True)]
        padded = mirror_pad(image, [(margin // 2, b + margin // 2) for _, b in over])
        files = tmp_path / "out" / f"{entry['digest']}.image.npy"
        patches = np.load(files)
        targets = np.load(files.with_name(files.name.replace("image", "label")))
        for index, (row, column) in enumerate(np.ndindex(*grid)):
            a, b = row * target_size, column * target_size
            size = target_size + margin
            np.testing.assert_allclose(
                patches[index, 0], padded[a : a + size, b : b + size], atol=1e-4
            )
        stitched = np.block(
            [
                [targets[row * grid[1] + column] for column in range(grid[1])]
                for row in range(grid[0])
            ]
        )[:, : cells.shape[0], : cells.shape[1]]
        classes, weights = stitched
        np.testing.assert_array_equal(classes > 0, cells > 0)
        np.testing.assert_allclose(weights, weight_map(cells), rtol=1e-6)
        assert (weights - class_balance(classes.astype(np.int64))).max() > 1  # a gap weighs more
    with torch.no_grad():
        out = network.eval()(made[0]["image"][None].to(next(network.parameters()).device))
    assert out.shape[2:] == made[0]["label"].shape[1:]


def read_slice(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)[..., 0]


Prepare = Callable[..., tuple[int, str, str]]


@pytest.fixture
def prepare(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Prepare:
    """`nestseg prepare` in this process, which has torch already: exit code, stdout, stderr."""

    def run_command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["nestseg", "prepare", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        return int(left.value.code or 0), *capsys.readouterr()

    return run_command


def test_a_failed_case_is_a_line_and_exit_code_1(
    data_set: Path, tmp_path: Path, prepare: Prepare
) -> None:
    (data_set / "images" / "case_2.nii.gz").write_bytes(b"no image")
    code, stdout, stderr = prepare(data_set, "-b", "hippocampus_unetpp", "-o", tmp_path / "out")
    assert code == 1
    assert "4: 1 failed, 3 written" in stdout
    assert [line.split(": ")[:3] for line in stderr.splitlines()] == [
        ["nestseg", "case 2", "case_2.nii.gz"]
    ]


def test_bad_input_is_one_line_and_exit_code_2(
    data_set: Path, tmp_path: Path, prepare: Prepare
) -> None:
    for dataset, bundle, words in (
        (tmp_path / "none", "hippocampus_unetpp", "none: no data set"),
        (data_set, "none", "none: no such bundle"),
    ):
        code, _, stderr = prepare(dataset, "-b", bundle, "-o", tmp_path / "out")
        assert code == 2
        assert words in stderr
        assert len(stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_nothing_that_can_be_prepared_is_an_error(data_set: Path, tmp_path: Path) -> None:
    for path in (data_set / "labels").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(InputError, match="none of its 4 training cases"):
        run(data_set, "hippocampus_unetpp", tmp_path / "out")


def test_a_set_for_another_bundle_is_refused(
    valid_bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    run(pictures, str(valid_bundle), tmp_path / "out")
    with pytest.raises(RuntimeError) as refused:  # MONAI's, around ours
        training_set(locate.find("nuclei_unet"), pictures, tmp_path / "out")
    assert isinstance(refused.value.__cause__, InputError)
    assert "prepared by other settings (transforms#4)" in str(refused.value.__cause__)
