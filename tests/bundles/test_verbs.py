"""Every verb of MONAI's command line on every bundle, from a foreign working directory."""

import importlib.util
import itertools
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from monai.bundle import ConfigParser
from monai.bundle import load as load_bundle
from monai.utils.safeeval import safe_eval

from nestseg.bundle import locate, recipe
from nestseg.bundle.info import read_info
from nestseg_prep import phantom
from nestseg_prep.nifti import read_nifti, write_nifti
from nestseg_prep.phantom import Phantom
from nestseg_prep.volume import Volume

BUNDLES = recipe.recipes(locate.home())
SHORT = {"epochs": 1, "val_interval": 1, "batch_size": 1}

FAST = ("em_unet", "hippocampus_unet3d")
"""One for sections, one for volumes; valid networks, whose outputs are smaller."""

each_bundle = pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
two_fast = pytest.mark.parametrize(
    "bundle",
    [pytest.param(b, marks=() if b.name in FAST else pytest.mark.slow) for b in BUNDLES],
    ids=lambda path: path.name,
)
slow = pytest.mark.slow


@pytest.fixture
def labelled(tmp_path: Path, bundle: Path) -> Path:
    """Balls that each class of the bundle labels; a bundle for pictures gets one slice."""
    form = json.loads((bundle / "configs/metadata.json").read_text())["network_data_format"]
    classes = form["outputs"]["pred"]["num_channels"]
    depth = 32 if len(form["inputs"]["image"]["spatial_shape"]) == 3 else 1
    root, names = tmp_path / "data", [f"case_{k}.nii.gz" for k in range(6)]
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        grid = np.indices((64, 64, depth))
        label = np.zeros((64, 64, depth), np.uint8)
        for value in range(1, classes):
            centre = np.array([rng.integers(16, 48), 64 * value // classes, depth // 2])
            label[((grid - centre[:, None, None, None]) ** 2).sum(0) < 64] = value
        image = (40.0 * label + rng.normal(100, 5, label.shape)).astype(np.float32)
        for folder, array in (("images", image), ("labels", label)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            write_nifti(Volume(array, np.eye(4)), root / folder / name)
    for folder, name in (("", "example_ct"), ("labels", "example_seg_fast_force_split")):
        source = root / (folder or "images") / names[0]  # what the trunk's bundle reads
        (root / folder / f"{name}.nii.gz").write_bytes(source.read_bytes())
    split = {"train": names[:2], "val": names[2:4], "test": names[4:]}
    (root / "index.json").write_text(json.dumps({"split": split}))
    return root


def call(cwd: Path, *words: object, **options: Any) -> None:
    line = [sys.executable, *map(str, words)]
    for name, value in options.items():
        line += [f"--{name}", str(value)]
    threads = {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        line, capture_output=True, text=True, cwd=cwd, env=os.environ | threads, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def laid_over(bundle: Path, *names: str) -> str:
    return str([str(bundle / "configs" / f"{name}.json") for name in names])


def spatial(bundle: Path, *factors: int) -> list[int]:
    """A legal input size: n along the axes in turn."""
    form = json.loads((bundle / "configs/metadata.json").read_text())["network_data_format"]
    axes = form["inputs"]["image"]["spatial_shape"]
    return [
        int(safe_eval(str(size), {"n": np.int32(n), "p": np.int32(1)}, rewrite_np=True))
        for size, n in zip(axes, itertools.cycle(factors))
    ]


@slow
@each_bundle
def test_two_processes_train_and_score(bundle: Path, labelled: Path, tmp_path: Path) -> None:
    words = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    words += ("-m", "monai.bundle", "run")
    options = SHORT | {"bundle_root": tmp_path / "out", "dataset_dir": labelled}
    call(tmp_path, *words, config_file=laid_over(bundle, "train", "multi_gpu_train"), **options)
    weights = torch.load(tmp_path / "out/models/model.pt", weights_only=True)
    assert not any(name.startswith("module.") for name in weights)
    layers = laid_over(bundle, "train", "evaluate", "multi_gpu_evaluate")
    call(tmp_path, *words, config_file=layers, output_dir=tmp_path / "scores", **options)
    raw = (tmp_path / "scores/val_mean_dice_raw.csv").read_text().splitlines()
    assert len(raw) == 1 + 2  # both cases, each scored by another process


@slow
@each_bundle
def test_a_training_is_tracked_by_mlflow(bundle: Path, labelled: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("mlflow") is None:
        pytest.skip("mlflow is not installed")
    options = SHORT | {"bundle_root": tmp_path / "out", "dataset_dir": labelled}
    words = ("-m", "monai.bundle", "run")
    call(tmp_path, *words, config_file=laid_over(bundle, "train"), tracking="mlflow", **options)
    with sqlite3.connect(tmp_path / "out/runs/mlruns.db") as database:
        keys = {key for (key,) in database.execute("select distinct key from metrics")}
        status = list(database.execute("select status from runs"))
    assert {"train_loss", "val_mean_dice"} <= keys
    assert status == [("FINISHED",)]


@slow
@each_bundle
def test_the_torchscript_export_computes_what_the_bundle_does(bundle: Path, tmp_path: Path) -> None:
    call(
        tmp_path,
        *("-W", "ignore", "-m", "monai.bundle", "ckpt_export", "network_def"),
        filepath=tmp_path / "model.ts",
        ckpt_file=bundle / "models/model.pt",
        meta_file=bundle / "configs/metadata.json",
        config_file=bundle / "configs/inference.json",
    )
    network, x = loaded(bundle)
    script = torch.jit.load(tmp_path / "model.ts")
    close(script(x), network(x))
    close(script(x.transpose(2, 3)), network(x.transpose(2, 3)))


@slow
@each_bundle
def test_the_onnx_export_computes_other_sizes_too(bundle: Path, tmp_path: Path) -> None:
    shape = spatial(bundle, 2, 3)
    axes = {0: "b"} | {axis + 2: "hwd"[axis] for axis in range(len(shape))}
    names = {"input_names": ["image"], "output_names": ["pred"]}
    dynamic = {"dynamic_axes": {"image": axes, "pred": axes}}
    call(
        tmp_path,
        *("-W", "ignore", "-m", "monai.bundle", "onnx_export", "network_def"),
        filepath=tmp_path / "model.onnx",
        ckpt_file=bundle / "models/model.pt",
        meta_file=bundle / "configs/metadata.json",
        config_file=bundle / "configs/inference.json",
        input_shape=[2, 1, *shape],
        # the default, torch.export, takes minutes over the crops of a grid of unknown size
        use_trace=True,
        converter_kwargs=names | dynamic | {"dynamo": False},
    )
    network, x = loaded(bundle, 4, 3)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (found,) = session.run(None, {"image": x.numpy()})
    close(torch.from_numpy(found), network(x))


@torch.no_grad()
def loaded(bundle: Path, *factors: int) -> tuple[torch.nn.Module, torch.Tensor]:
    """The bundle's network with its weights, and an image for it that is no cube."""
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs/inference.json"))
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(bundle / "models/model.pt", weights_only=True))
    torch.manual_seed(0)
    image = torch.rand(1, 1, *spatial(bundle, *(factors or (2, 3))))
    return network.eval().requires_grad_(False), image


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@two_fast
@pytest.mark.filterwarnings("ignore:parsing config_file:UserWarning")
def test_monais_load_gives_the_network_with_its_weights(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    network = load_bundle(name=bundle.name, bundle_dir=str(bundle.parent), device="cpu")
    expected, x = loaded(bundle)
    torch.testing.assert_close(network.eval()(x), expected(x))


@slow
@each_bundle
def test_inference_takes_nifti_folders_and_dicom_trees(bundle: Path, tmp_path: Path) -> None:
    selection = read_info(bundle).selection
    modality = (selection.modalities or ("OT",))[-1]
    size = 3.0 if modality == "CT" else 1.0  # a trunk, or what is smaller
    source = Phantom(
        modality="CT" if modality == "CT" else "MR",
        columns=40,
        rows=38,  # 37 * 1.1 is not half-way between two sizes of the grid
        slices=3 if selection.pictures else 36,
        between_columns=1.0 * size,
        between_rows=1.1 * size,
        between_slices=1.2 * size,
    )
    changed = phantom.every(phantom.setting(Modality=modality))(source.datasets())
    (tmp_path / "dicom").mkdir()
    phantom.write(changed, tmp_path / "dicom/patient/study/series")
    (tmp_path / "nifti").mkdir()
    write_nifti(source.truth, tmp_path / "nifti/case.nii.gz")
    masks = {}
    for kind in ("dicom", "nifti"):
        call(
            tmp_path,
            *("-m", "monai.bundle", "run"),
            config_file=bundle / "configs/inference.json",
            bundle_root=bundle,
            dataset_dir=tmp_path / kind,
            output_dir=tmp_path / f"{kind}_masks",
        )
        (path,) = (tmp_path / f"{kind}_masks").rglob("*.nii.gz")
        masks[kind] = read_nifti(path)
        np.testing.assert_allclose(masks[kind].affine, source.truth.affine, atol=1e-3)
        assert masks[kind].array.shape == source.truth.array.shape
    # A NIfTI file holds its affine in single precision: the resampled images differ by 2e-6, and on
    # the way back a voxel half-way between two takes the other one.
    assert np.mean(masks["dicom"].array == masks["nifti"].array) > 0.995
