"""Models of nnU-Net: the oracle's, and small ones that the tests make."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nestseg.networks import PlainConvUNet

CONFIGURATION = {
    "preprocessor_name": "DefaultPreprocessor",
    "patch_size": [32, 32, 32],
    "spacing": [1.5, 1.0, 1.0],
    "normalization_schemes": ["ZScoreNormalization"],
    "use_mask_for_norm": [False],
    **{f"resampling_fn_{what}": "resample_data_or_seg_to_shape" for what in ("data", "seg")},
    "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
    "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0},
    "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0},
    "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0},
    "architecture": {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": 2,
            "features_per_stage": [2, 3],
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3, 3, 3]] * 2,
            "strides": [[1, 1, 1], [2, 2, 2]],
            "n_conv_per_stage": [2, 2],
            "n_conv_per_stage_decoder": [2],
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
    },
}


class Folder:
    """A results folder that a test may change before it is written.

    Attributes:
        plans: of it.
        dataset: of it.
        checkpoint: what its files hold besides weights.
        name: of the configuration that was trained.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, "3d_fullres"
        self.plans: dict[str, Any] = {
            "dataset_name": "Dataset001_Made",
            "plans_name": "nnUNetPlans",
            "image_reader_writer": "SimpleITKIO",
            "transpose_forward": [0, 1, 2],
            "label_manager": "LabelManager",
            "configurations": {"3d_fullres": copy.deepcopy(CONFIGURATION)},
        }
        self.dataset: dict[str, Any] = {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0, "liver": 1, "spleen": 2},
            "file_ending": ".nii.gz",
        }
        self.checkpoint: dict[str, Any] = {
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": (0, 1, 2),
            "_best_ema": np.float32(0.5),
        }

    @property
    def configuration(self) -> dict[str, Any]:
        found: dict[str, Any] = self.plans["configurations"]["3d_fullres"]
        return found

    def write(self, folds: int = 1, channels: int = 1, outputs: int = 3) -> Path:
        """The folder ``Trainer__Plans__configuration`` with random weights."""
        folder = self.path / f"nnUNetTrainer__nnUNetPlans__{self.name}"
        folder.mkdir(parents=True)
        (folder / "plans.json").write_text(json.dumps(self.plans))
        (folder / "dataset.json").write_text(json.dumps(self.dataset))
        for fold in range(folds):
            torch.manual_seed(fold)
            network = PlainConvUNet(3, channels, outputs, (2, 3), ((1, 1, 1), (2, 2, 2)))
            (folder / f"fold_{fold}").mkdir()
            content = self.checkpoint | {
                "network_weights": with_aliases(network.state_dict()),
                "init_args": {"configuration": self.name},
            }
            torch.save(content, folder / f"fold_{fold}" / "checkpoint_final.pth")
        return folder


def with_aliases(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict as nnU-Net stores it: layers again in a list, the encoder in the decoder."""
    found = {}
    for name, value in state.items():
        head, layer, tail = name.rpartition(".conv.")
        number = 0
        if not layer:
            head, layer, tail = name.rpartition(".norm.")
            number = 1
        found[name] = value
        if layer:
            found[f"{head}.all_modules.{number}.{tail}"] = value
    encoder = {f"decoder.{k}": v for k, v in found.items() if k.startswith("encoder.")}
    return found | encoder


@pytest.fixture
def results(tmp_path: Path) -> Callable[[], Folder]:
    """Makes results folders beside each other."""
    return lambda: Folder(tmp_path / "Dataset001_Made")


@pytest.fixture(scope="session")
def oracle(shared_data: Path) -> Path:
    """Tiny models with nnU-Net's own masks."""
    return shared_data / "nnunet_oracle"
