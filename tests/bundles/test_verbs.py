"""Every verb of MONAI's command line on every bundle, from a foreign working directory."""

import importlib.util
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

from nestseg.bundle import locate, recipe
from nestseg_prep.nifti import write_nifti
from nestseg_prep.volume import Volume

BUNDLES = recipe.recipes(locate.home())
SHORT = {"epochs": 1, "val_interval": 1, "batch_size": 1}

pytestmark = pytest.mark.slow
each_bundle = pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)


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


def spatial(bundle: Path) -> list[int]:
    """A legal input shape that is not a cube: n = 2, and n = 3 along the first axis."""
    form = json.loads((bundle / "configs/metadata.json").read_text())["network_data_format"]
    axes = form["inputs"]["image"]["spatial_shape"]
    return [
        int(eval(str(size), {"n": 3 if axis == 0 else 2, "p": 1}))  # noqa: S307  our own file
        for axis, size in enumerate(axes)
    ]


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


@each_bundle
def test_a_training_is_tracked_by_mlflow(bundle: Path, labelled: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("mlflow") is None:
        pytest.skip("mlflow is not installed")
    options = SHORT | {"bundle_root": tmp_path / "out", "dataset_dir": labelled}
    words = ("-m", "monai.bundle", "run")
    call(tmp_path, *words, config_file=laid_over(bundle, "train"), tracking="mlflow", **options)
    with sqlite3.connect(tmp_path / "out/runs/mlruns.db") as database:
        keys = {key for (key,) in database.execute("select distinct key from metrics")}
    assert {"train_loss", "val_mean_dice"} <= keys


@each_bundle
def test_the_torchscript_export_computes_what_the_bundle_does(bundle: Path, tmp_path: Path) -> None:
    configs = bundle / "configs"
    call(
        tmp_path,
        *("-W", "ignore", "-m", "monai.bundle", "ckpt_export", "network_def"),
        filepath=tmp_path / "model.ts",
        ckpt_file=bundle / "models/model.pt",
        meta_file=configs / "metadata.json",
        config_file=configs / "inference.json",
        input_shape=[1, 1, *spatial(bundle)],
    )
    network, x = loaded(bundle)
    torch.testing.assert_close(torch.jit.load(tmp_path / "model.ts")(x), network(x))


@each_bundle
def test_the_onnx_export_computes_other_sizes_too(bundle: Path, tmp_path: Path) -> None:
    configs, shape = bundle / "configs", spatial(bundle)
    axes = {0: "b"} | {axis + 2: "hwd"[axis] for axis in range(len(shape))}
    names = {"input_names": ["image"], "output_names": ["pred"]}
    dynamic = {"dynamic_axes": {"image": axes, "pred": axes}}
    verify = {"verify": True, "use_ort": True, "rtol": 0.001, "atol": 0.0001}
    call(
        tmp_path,
        *("-W", "ignore", "-m", "monai.bundle", "onnx_export", "network_def"),
        filepath=tmp_path / "model.onnx",
        ckpt_file=bundle / "models/model.pt",
        meta_file=configs / "metadata.json",
        config_file=configs / "inference.json",
        input_shape=[2, 1, *spatial(bundle)],
        converter_kwargs=names | dynamic | verify,
    )
    network, x = loaded(bundle)
    x = x.flip(0).transpose(2, 3).contiguous()
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (found,) = session.run(None, {"image": x.numpy()})
    np.testing.assert_allclose(found, network(x).detach().numpy(), rtol=1e-3, atol=1e-4)


def loaded(bundle: Path) -> tuple[torch.nn.Module, torch.Tensor]:
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs/inference.json"))
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(bundle / "models/model.pt", weights_only=True))
    torch.manual_seed(0)
    return network.eval(), torch.rand(1, 1, *spatial(bundle))


@each_bundle
def test_monais_load_gives_the_network_with_its_weights(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    network = load_bundle(name=bundle.name, bundle_dir=str(bundle.parent), device="cpu")
    expected, x = loaded(bundle)
    torch.testing.assert_close(network.eval()(x), expected(x))
