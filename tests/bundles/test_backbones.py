"""A recipe trains UNet++ on any encoder by one override; the bundle is pruned and segments."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from monai.bundle import ConfigWorkflow

from nestseg.bundle import locate, recipe
from nestseg.bundle.options import SegmentOptions
from nestseg.networks import BackboneUNet
from nestseg.pruning.candidates import prunable_network, write_level
from nestseg_prep.picture import read_picture
from tests.opened import opened

IN_2D = (
    *("resnet18", "resnet34", "resnet50", "vgg16_bn", "densenet121"),
    *("efficientnet_b0", "mednext_s", "timm:convnext_atto"),
)


def rendered(folder: Path, network: dict[str, Any]) -> Path:
    """The bundle ``nuclei_unetpp`` with another ``network_def``, rendered from its recipe."""
    bundle = folder / "nuclei_backbone"
    shutil.copytree(locate.find("nuclei_unetpp"), bundle, ignore=shutil.ignore_patterns("models"))
    steps = yaml.safe_load((bundle / recipe.RECIPE).read_text())
    for name in ("train", "inference"):
        steps[name]["override"]["network_def"] = network
    steps["train"]["override"]["deep_supervision_weights"] = [1.0] * len(network["features"])
    (bundle / recipe.RECIPE).write_text(yaml.safe_dump(steps, sort_keys=False))
    recipe.write(bundle)
    return bundle


@pytest.mark.slow
@pytest.mark.parametrize("encoder", IN_2D)
def test_unetpp_on_an_encoder_trains_is_pruned_to_level_2_and_segments(
    encoder: str, picture_set: Path, tmp_path: Path
) -> None:
    if encoder.startswith("timm:"):
        pytest.importorskip("timm", exc_type=ImportError)
    features = [8, 16, 32] if encoder.startswith("timm:") else [8, 16, 32, 64]
    network = {
        "_target_": "nestseg.networks.BackboneUNet",
        "spatial_dims": 2,
        "in_channels": 1,
        "out_channels": "@out_channels",
        "encoder": encoder,
        "features": features,
        "topology": "unet++",
    }
    bundle = rendered(tmp_path, network)
    workflow = ConfigWorkflow(
        config_file=str(bundle / "configs" / "train.json"),
        meta_file=str(bundle / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        bundle_root=str(bundle),
        dataset_dir=str(picture_set),
        epochs=2,
        val_interval=2,
        train_size=[64, 64],
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()

    whole = prunable_network(bundle)
    assert isinstance(whole, BackboneUNet)
    write_level(bundle, whole, 2, tmp_path / "pruned")
    image = read_picture(picture_set / "images" / "case_4.png")
    mask = opened(tmp_path / "pruned").predict(image).mask
    assert mask.shape == image.shape
    assert set(np.unique(mask.array)) <= {0, 1}
    at_level = opened(bundle, SegmentOptions(level=2)).predict(image).mask
    assert np.array_equal(at_level.array, mask.array)
