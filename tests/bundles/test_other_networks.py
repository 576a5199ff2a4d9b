"""MONAI's networks in a recipe of ours, each by its `network_def` alone: train, check, segment."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigWorkflow
from monai.networks import nets

from nestseg.bundle import checks, locate, recipe, trust
from nestseg.bundle.built import BundleConfig
from nestseg.bundle.findings import Severity
from nestseg.bundle.info import read_info
from nestseg.label import training
from nestseg.label.cases import usable
from nestseg.label.models import Models
from nestseg.label.traits import Traits, traits
from nestseg.label.uncertainty import Uncertainty
from nestseg.label.work import Work
from nestseg.networks.adapted import Adapted, found_geometry
from nestseg.pruning.candidates import prunable_network
from nestseg_prep.errors import InputError
from nestseg_prep.nifti import read_nifti
from tests.opened import models, opened

SOURCE = locate.find("hippocampus_unetpp")


class Case(NamedTuple):
    """A network of MONAI's.

    Attributes:
        arguments: of its constructor, besides the channels.
        heads: that it has in training.
        period: what its sizes are multiples of.
    """

    arguments: dict[str, Any]
    heads: int
    period: int


CASES = {
    "SegResNet": Case({"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]}, 1, 2),
    "SegResNetDS": Case(
        {"spatial_dims": 3, "init_filters": 8, "blocks_down": [1, 1, 1], "dsdepth": 2}, 2, 4
    ),
    "DynUNet": Case(
        {
            "spatial_dims": 3,
            "kernel_size": [3, 3, 3, 3],
            "strides": [1, 2, 2, 2],
            "upsample_kernel_size": [2, 2, 2],
            "filters": [4, 4, 8, 8],
            "deep_supervision": True,
            "deep_supr_num": 2,
        },
        3,
        8,
    ),
    "AttentionUnet": Case({"spatial_dims": 3, "channels": [4, 8], "strides": [2]}, 1, 2),
    "MedNeXt": Case(
        {
            "spatial_dims": 3,
            "init_filters": 4,
            "blocks_down": [1, 1],
            "blocks_bottleneck": 1,
            "blocks_up": [1, 1],
            "deep_supervision": True,
        },
        3,
        4,
    ),
    "BasicUNetPlusPlus": Case(
        {"spatial_dims": 3, "features": [2, 2, 4, 4, 8, 2], "deep_supervision": True}, 4, 1
    ),
    "SwinUNETR": Case({"feature_size": 12, "depths": [1] * 4, "num_heads": [1] * 4}, 1, 32),
}
FAST = "DynUNet"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def make_bundle(name: str, folder: Path) -> Path:
    """The hippocampus bundle's recipe with another network, which has learned nothing."""
    case = CASES[name]
    bundle = Path(shutil.copytree(SOURCE, folder / name.lower()))
    shutil.rmtree(bundle / "models")
    (bundle / "models").mkdir()
    content = yaml.safe_load((bundle / recipe.RECIPE).read_text())
    least = {"SwinUNETR": 64, "BasicUNetPlusPlus": 32}.get(name, 16)
    for workflow in ("train", "inference"):
        kept = [part for part in content[workflow]["parts"] if part != "network_unetpp"]
        override = content[workflow].setdefault("override", {})
        content[workflow]["parts"] = ["network_monai", *kept]
        override |= {
            "out_channels": 3,
            "network_def": {
                "_target_": name,
                "in_channels": 1,
                "out_channels": "@out_channels",
                **case.arguments,
            },
            "roi_size": [max(32, least), max(48, least), max(32, least)],
        }
    content["train"]["override"] |= {
        "train_size": [least] * 3,
        "fit#0#spatial_size": [max(32, least)] * 3,
        "deep_supervision_weights": [1.0] * case.heads,
        "precision": "float32",
        "batch_size": 2,
        "epochs": 2,
        "val_interval": 1,
    }
    tensors = content["metadata"]["override"]["network_data_format"]
    for tensor in (tensors["inputs"]["image"], tensors["outputs"]["pred"]):
        tensor["spatial_shape"] = [f"{least}*n"] * 3
    del content["metadata"]["override"]["uncertainty_at_most"]
    (bundle / recipe.RECIPE).write_text(yaml.safe_dump(content))
    recipe.write(bundle)
    return bundle


def run(bundle: Path, data: Path, *files: str) -> ConfigWorkflow:
    workflow = ConfigWorkflow(
        config_file=[str(bundle / "configs" / name) for name in files],
        meta_file=str(bundle / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        bundle_root=str(bundle),
        dataset_dir=str(data),
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return workflow


def main_head(bundle: Path, path: Path) -> np.ndarray[Any, Any]:
    """The mask of one pass of the network over the whole image, as its authors wrote it."""
    network = BundleConfig.inference(bundle).build("network").eval()
    state = torch.load(bundle / "models" / "model.pt", weights_only=True)
    network.load_state_dict({name: value.float() for name, value in state.items()})
    array = torch.as_tensor(np.asarray(read_nifti(path).array, dtype=np.float32))
    low, high = torch.quantile(array, torch.tensor([0.005, 0.995]))
    found = array.clamp(low, high)
    with torch.no_grad():
        out = network(((found - found.mean()) / found.std(correction=0))[None, None])
    out = out[-1] if isinstance(out, list) else out  # the deepest of UNet++ comes last
    return np.asarray(out[0].argmax(0))


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=() if one == FAST else pytest.mark.slow) for one in CASES]
)
def test_a_network_of_monais_trains_validates_is_checked_and_segments(
    name: str, balls: Path, tmp_path: Path
) -> None:
    if name == "SwinUNETR" and importlib.util.find_spec("einops") is None:
        pytest.skip("MONAI's SwinUNETR needs the package einops")
    case, bundle = CASES[name], make_bundle(name, tmp_path)
    images = balls / "images"
    trained = run(bundle, balls, "train.json").trainer.state.metrics
    assert np.isfinite(trained["train_loss"])
    assert len([one for one in trained if "head" in one]) == (case.heads if case.heads > 1 else 0)
    scores = run(bundle, balls, "train.json", "evaluate.json").evaluator.state.metrics
    assert 0 <= scores["val_mean_dice"] <= 1
    trust.remember(bundle)
    found = checks.check(bundle)
    assert [one for one in found if one.severity is Severity.ERROR] == []
    made = opened(bundle)
    (note,) = (one for one in models(made)[0].notes if "carries no geometry" in one)
    assert f"multiples of {' × '.join([str(case.period)] * 3)} voxels" in note
    path = max(images.iterdir())
    result = made.predict(read_nifti(path))
    assert result.mask.shape == (32, 48, 32)
    if name != "SwinUNETR":  # it takes no image as small as this one
        assert np.mean(result.mask.array == main_head(bundle, path)) > 0.999
    assert (result.uncertainty is not None) == (name == "BasicUNetPlusPlus")
    labels(bundle, balls, tmp_path, result.mask.array)


def labels(bundle: Path, data: Path, folder: Path, mask: np.ndarray[Any, Any]) -> None:
    """What the label server does with a bundle: offer, measure, segment, fine-tune."""
    images = data / "images"
    work = Work(folder / "work")
    work.make()
    copy = work.adopt(bundle)
    assert traits(copy) == Traits((), ("entropy",))
    image = read_nifti(max(images.iterdir()))
    assert 0 <= Uncertainty(copy).measure(image)["entropy"] <= 1
    np.testing.assert_array_equal(Models(work).get(copy).predict(image).mask.array, mask)
    with pytest.raises(InputError, match="cannot be pruned"):
        prunable_network(bundle)
    data_list = [
        {"id": one.stem, "image": str(one), "label": str(data / "labels" / one.name)}
        for one in sorted(images.iterdir())[:3]
    ]
    labelled, left = usable(data_list, 2, read_info(copy).selection, folder)
    assert left == []
    options = training.Options(epochs=1, early_stop=0, from_scratch=False)
    trained = training.train(copy, labelled[:2], labelled[2:3], options, folder / "run")
    told = training.publish_if_not_worse(copy, trained, labelled[2:3], caged=False)
    assert 0 <= told["dice_before"] <= 1


@pytest.mark.parametrize("name", ["SegResNetDS", "DynUNet", "AttentionUnet", "MedNeXt"])
def test_the_sizes_that_a_network_takes_are_found_out_by_trial(name: str) -> None:
    arguments, _, period = CASES[name]
    network = getattr(nets, name)(in_channels=1, out_channels=3, **arguments)
    geometry = found_geometry(network)
    assert geometry.period == (period,) * 3
    assert network.training  # as it was
    adapted = Adapted(network.eval())
    with torch.no_grad():
        shape = geometry.input_size([17, 20, 33])
        assert tuple(adapted(torch.zeros(1, 1, *shape)).shape[2:]) == shape


def test_a_network_whose_sizes_cannot_be_found_out_is_refused_with_a_remedy() -> None:
    valid = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3))
    with pytest.raises(ValueError, match=r"\(192, 192\) voxels become \(190, 190\); use MONAI's"):
        found_geometry(valid)
    with pytest.raises(ValueError, match="carries no geometry, and has no convolution"):
        found_geometry(torch.nn.Linear(1, 1))


def test_weights_that_are_fewer_than_the_heads_fail_the_check(tmp_path: Path) -> None:
    bundle = make_bundle(FAST, tmp_path)
    trust.remember(bundle)
    config = bundle / "configs" / "train.json"
    text = config.read_text().replace('"deep_supervision_weights": [', '"unused": [')
    config.write_text(text.replace('"@deep_supervision_weights"', "[1.0]"))
    trust.remember(bundle)
    found = [one for one in checks.check(bundle) if one.place == "loss#weights"]
    assert [one.problem for one in found] == ["has 1 weights, the network 3 heads"]


def test_a_refused_network_names_its_bundle(tmp_path: Path) -> None:
    bundle = make_bundle("SegResNet", tmp_path)
    config = bundle / "configs" / "inference.json"
    content = json.loads(config.read_text())
    content["network_def"] = {
        "_target_": "torch.nn.Conv3d",
        "in_channels": 1,
        "out_channels": 3,
        "kernel_size": 3,
    }
    config.write_text(json.dumps(content))
    torch.save(torch.nn.Conv3d(1, 3, 3).state_dict(), bundle / "models" / "model.pt")
    with pytest.raises(InputError, match="segresnet: Conv3d carries no geometry"):
        opened(bundle)
