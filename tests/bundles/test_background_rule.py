"""The background that a bundle declares, held against the data that it was trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import maximum_filter

from nestseg.bundle import locate
from nestseg.bundle.built import BundleConfig
from nestseg.inferers.background import box
from nestseg_prep.nifti import read_nifti

TRUNK = "ct_trunk_unetpp"
AIR_HU = -800.0
SMALLEST = 16  # voxels per side of the smallest tile: the network's period is 8, its images 27


@pytest.fixture(scope="module")
def config() -> BundleConfig:
    return BundleConfig(locate.find(TRUNK), "inference.json")


def test_the_trunk_bundle_declares_air(config: BundleConfig) -> None:
    declared = config.build("inferer").background_at_most
    (scale,) = config.build("intensity")
    seen = scale({"image": torch.tensor([[[[AIR_HU]]]])})["image"]
    assert float(seen) == pytest.approx(declared)
    training = BundleConfig(locate.find(TRUNK), "train.json")
    assert training.raw("inferer")["background_at_most"] == declared


def test_no_label_of_the_training_lies_in_a_tile_of_air(shared_data: Path) -> None:
    folder = shared_data / "volumes" / "ct_trunk_totalseg"
    image = read_nifti(folder / "example_ct.nii.gz").array
    label = read_nifti(folder / "labels" / "example_seg_fast_force_split.nii.gz").array > 0
    assert label.any()
    dense = image > AIR_HU
    empty = ~maximum_filter(dense, SMALLEST)  # centres of tiles of air
    assert empty.mean() > 0.05
    # The voxels of a tile of even size lie one further on one side of its centre than on the other.
    in_air = maximum_filter(empty, SMALLEST, origin=-1)
    assert not (in_air & label).any()
    assert not (in_air & dense).any()
    around = box(torch.from_numpy(dense), image.shape)
    assert around is not None
    outside = np.ones(image.shape, bool)
    outside[around] = False
    assert not (outside & label).any()


def test_the_valid_bundles_choose_their_tiles_by_arithmetic() -> None:
    for name, roi in (("em_unet", (700, 700)), ("hippocampus_unet3d", (80, 100, 80))):
        one = BundleConfig(locate.find(name), "inference.json")
        with torch.device("meta"):
            network = one.build("network_def")
        shape = (512, 512) if len(roi) == 2 else (40, 60, 40)
        assert one.build("inferer").tiling(network, shape).roi_size == roi
