"""The bundles through MONAI's own command line, from a foreign working directory."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nestseg.bundle import locate
from nestseg_prep.nifti import read_nifti

BUNDLE = "hippocampus_unetpp"


def monai(cwd: Path, config_file: str, **options: object) -> None:
    words = [sys.executable, "-m", "monai.bundle", "run", "--config_file", config_file]
    for name, value in options.items():
        words += [f"--{name}", str(value)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.fixture
def configs() -> Path:
    return locate.find(BUNDLE) / "configs"


def test_inference_gives_the_masks_of_nestseg_segment(
    image_folder: Path, tmp_path: Path, configs: Path
) -> None:
    foreign = tmp_path / "elsewhere"
    foreign.mkdir()
    (foreign / "pipeline.py").write_text("raise RuntimeError('a file of the user')")
    monai(
        foreign,
        str(configs / "inference.json"),
        bundle_root=configs.parent,
        dataset_dir=image_folder,
        output_dir=tmp_path / "monai",
    )
    words = ["segment", image_folder, "--bundle", BUNDLE, "--out", tmp_path / "nestseg"]
    subprocess.run([sys.executable, "-m", "nestseg.cli", *map(str, words)], check=True)
    masks = sorted((tmp_path / "nestseg").glob("*_seg.nii.gz"))
    assert len(masks) == 6
    for path in masks:
        ours, theirs = read_nifti(path), read_nifti(tmp_path / "monai" / path.name)
        np.testing.assert_array_equal(ours.array, theirs.array)
        np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-6)


def test_training_and_evaluation_run_and_keep_the_best_weights(
    data_set: Path, tmp_path: Path, configs: Path
) -> None:
    options = {"bundle_root": tmp_path / "bundle", "dataset_dir": data_set}
    monai(tmp_path, str(configs / "train.json"), epochs=2, val_interval=1, batch_size=2, **options)
    assert (tmp_path / "bundle" / "models" / "model.pt").is_file()
    both = f"['{configs / 'train.json'}','{configs / 'evaluate.json'}']"
    monai(tmp_path, both, output_dir=tmp_path / "scores", **options)
    summary = (tmp_path / "scores" / "val_mean_dice_summary.csv").read_text()
    assert summary.startswith("class,mean")
    assert [line.split(",")[0] for line in summary.splitlines()] == [
        "class",
        "class0",
        "class1",
        "mean",
    ]


@pytest.mark.slow
def test_a_pruned_bundle_trains_and_evaluates(
    data_set: Path, tmp_path: Path, pruned_bundle: Path
) -> None:
    configs = pruned_bundle / "configs"
    options = {"bundle_root": tmp_path / "bundle", "dataset_dir": data_set}
    monai(tmp_path, str(configs / "train.json"), epochs=1, val_interval=1, batch_size=2, **options)
    both = f"['{configs / 'train.json'}','{configs / 'evaluate.json'}']"
    monai(tmp_path, both, output_dir=tmp_path / "scores", **options)
    assert (tmp_path / "scores" / "val_mean_dice_summary.csv").is_file()


def test_numeric_folder_names_are_folder_names(
    image_folder: Path, tmp_path: Path, configs: Path
) -> None:
    numeric = tmp_path / "20240101"
    numeric.mkdir()
    name = "case_0.nii.gz"
    (numeric / name).write_bytes((image_folder / name).read_bytes())
    monai(
        tmp_path,
        str(configs / "inference.json"),
        bundle_root=configs.parent,
        dataset_dir="20240101",  # MONAI's command line reads a number here
        output_dir=tmp_path / "out",
    )
    metadata = json.loads((configs / "metadata.json").read_text())
    labels = metadata["network_data_format"]["outputs"]["pred"]["num_channels"]
    mask = read_nifti(tmp_path / "out" / "case_0_seg.nii.gz").array
    assert mask.dtype == np.uint8
    assert mask.max() < labels


def test_the_committed_weights_reach_the_figures_of_the_model_card(
    shared_data: Path, tmp_path: Path, configs: Path
) -> None:
    monai(
        tmp_path,
        f"['{configs / 'train.json'}','{configs / 'evaluate.json'}']",
        bundle_root=configs.parent,
        dataset_dir=shared_data / "volumes" / "hippocampus_msd04",
        output_dir=tmp_path / "scores",
    )
    summary = (tmp_path / "scores" / "val_mean_dice_summary.csv").read_text().splitlines()
    means = {line.split(",")[0]: float(line.split(",")[1]) for line in summary[1:]}
    assert means["mean"] >= 0.86
    card = (configs.parent / "docs" / "README.md").read_text()
    for name, label in (("class0", "anterior"), ("class1", "posterior")):
        assert f"| {label} | {means[name]:.3f} |" in card
