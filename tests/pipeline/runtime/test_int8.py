"""Eight bits: calibrated on what the network sees, kept only if the masks are as good."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from nestseg.bundle import locate
from nestseg.bundle.options import SegmentOptions
from nestseg.networks import GridUNet
from nestseg.pruning import quantize as making
from nestseg.runtime import calibrated
from nestseg.runtime.fast import load
from nestseg.runtime.proof import error
from nestseg_prep.errors import InputError
from nestseg_prep.nifti import read_nifti
from tests.opened import models, opened

from ... import data_sets  # noqa: TID252  tests are no package

pytest.importorskip("openvino", reason="openvino is not installed")
pytest.importorskip("nncf", reason="nncf is not installed")

NETWORK = {
    "_target_": "nestseg.networks.GridUNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": "@out_channels",
    "features": [4, 6],
    "topology": "unet++",
    "norm": "instance",
    "act": "leakyrelu",
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two validation cases."""
    folder = tmp_path / "data"
    shapes = [(16, 20, 12), (18, 16, 14)]
    data_sets.write_cases(folder, "images/{}.nii.gz", "labels/{}.nii.gz", shapes, (1, 1, 1))
    listed = [{kind[:-1]: f"{kind}/{n}.nii.gz" for kind in ("images", "labels")} for n in (0, 1)]
    (folder / "datalist.json").write_text(json.dumps({"train": [], "val": listed, "test": []}))
    return folder / "datalist.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle with a small network that never learned anything."""
    copy = tmp_path / "small"
    shutil.copytree(locate.find("hippocampus_unetpp"), copy)
    for name in ("inference.json", "train.json"):
        config = json.loads((copy / "configs" / name).read_text())
        config["network_def"] = NETWORK
        (copy / "configs" / name).write_text(json.dumps(config))
    torch.manual_seed(0)
    network = GridUNet(3, 1, 3, (4, 6), "unet++", norm="instance", act="leakyrelu")
    torch.save(network.state_dict(), copy / "models" / "model.pt")
    return copy


def test_a_model_that_is_as_good_is_kept_and_used(folder: Path, data: Path, monkeypatch) -> None:
    monkeypatch.setattr(making, "MOST_LOST", 1.0)
    record = making.quantize(folder, data)
    assert record.kept
    assert (record.cases, record.failed) == (2, 0)
    assert abs(record.dice_int8 - record.dice_fp32) < 0.2
    place = folder / calibrated.FOLDER
    assert {path.name for path in place.iterdir()} == {"model.xml", "model.bin", "record.json"}
    assert json.loads((place / "record.json").read_text())["kept"] is True
    assert [path.name for path in place.parent.iterdir() if path.name.startswith(".")] == []

    bundle = opened(folder)
    image = read_nifti(data.parent / "images" / "0.nii.gz")
    found = bundle.predict(image, SegmentOptions(precision="int8"))
    assert found.computed_by == "openvino int8"
    assert found.notes == ()
    expected = bundle.predict(image)
    agreed = (found.mask.array == expected.mask.array).mean()
    assert 0.8 < agreed < 1  # of noise; and eight bits they are
    assert found.uncertainty is None  # one head

    weights = torch.load(folder / "models" / "model.pt", weights_only=True)
    torch.save({k: v + 0.01 for k, v in weights.items()}, folder / "models" / "model.pt")
    other = opened(folder)
    assert models(other)[0].int8 is None
    with pytest.raises(InputError, match="int8 needs a calibrated model"):
        other.predict(image, SegmentOptions(precision="int8"))


def test_a_model_that_is_worse_leaves_nothing(folder: Path, data: Path, monkeypatch) -> None:
    monkeypatch.setattr(making, "MOST_LOST", -2.0)
    before = sorted(folder.rglob("*"))
    assert not making.quantize(folder, data).kept
    assert sorted(folder.rglob("*")) == before


def test_without_a_case_nothing_is_calibrated(folder: Path, data: Path) -> None:
    data.write_text(json.dumps({"train": [], "val": [], "test": []}))
    with pytest.raises(InputError):
        making.quantize(folder, data)
    assert not (folder / calibrated.FOLDER).exists()


def test_every_head_is_calibrated_and_another_batch_is_taken(tmp_path: Path) -> None:
    from nestseg.runtime.backends import int8  # noqa: PLC0415

    torch.manual_seed(0)
    net = GridUNet(2, 1, 2, (4, 6, 8), "unet++", norm="batch").eval()
    tiles = [np.random.default_rng(k).normal(size=(1, 1, 16, 16)) for k in range(4)]
    int8.calibrate(net, [tile.astype(np.float32) for tile in tiles], tmp_path)
    fast = load(net, "sha", torch.device("cpu"), "int8", int8=tmp_path)
    x = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        expected = net.forward_heads(x)
    heads = fast.forward_heads(x)
    assert [head.shape for head in heads] == [head.shape for head in expected]
    worst = max(error(a, b) for a, b in zip(heads, expected, strict=True))
    assert 1e-4 < worst < 0.4  # of weights that never learned, on noise
    assert error(fast(x), expected[0]) < 0.4
    assert fast.graphs.way == "openvino int8"


def test_tiles_of_air_do_not_narrow_the_ranges(tmp_path: Path) -> None:
    """NNCF's own ranges are means over tiles: among seven tiles of air, bone would be cut off."""
    from nestseg.runtime.backends import int8  # noqa: PLC0415

    torch.manual_seed(0)
    net = GridUNet(2, 1, 2, (8, 12), norm=None).eval()
    air = [np.full((1, 1, 16, 16), -2, np.float32) for _ in range(7)]
    bone = np.random.default_rng(0).uniform(-2, 2, (1, 1, 16, 16)).astype(np.float32)
    int8.calibrate(net, [*air, bone], tmp_path)
    fast = load(net, "sha", torch.device("cpu"), "int8", int8=tmp_path)
    x = torch.from_numpy(bone)
    with torch.no_grad():
        assert error(fast(x), net(x)) < 0.15  # by NNCF's own ranges it is 0.6
    assert fast.graphs.way == "openvino int8"
