"""Masks of imported models beside nnU-Net's own, on models of every kind that an import knows.

    pip install nnunetv2          # into an environment with nestseg
    python benchmarks/nnunet_models.py [KIND ...]

Each kind is a results folder with random weights and nnU-Net's names, made and run by nnunetv2,
then imported and run by nestseg on the same files. Prints the number of voxels that differ.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage

Plans = dict[str, Any]
Dataset = dict[str, Any]

_STATISTICS = {"mean": 60.0, "std": 30.0, "percentile_00_5": 5.0, "percentile_99_5": 120.0}


def plans(dims: int = 3) -> Plans:
    """Plans of a tiny network; kinds change them."""
    spacing = [1.6, 1.1, 1.0][3 - dims :]
    resampling = {"order_z": 0, "force_separate_z": None}
    name = "Conv3d" if dims == 3 else "Conv2d"
    norm = "InstanceNorm3d" if dims == 3 else "InstanceNorm2d"
    configuration = {
        "data_identifier": "x",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [16, 24, 24][3 - dims :],
        "spacing": spacing,
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, **resampling},
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, **resampling},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, **resampling},
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                "n_stages": 3,
                "features_per_stage": [4, 6, 8],
                "conv_op": f"torch.nn.modules.conv.{name}",
                "kernel_sizes": [[3] * dims] * 3,
                "strides": [[1] * dims, [2] * dims, [2] * dims],
                "n_conv_per_stage": [2, 2, 2],
                "n_conv_per_stage_decoder": [2, 2],
                "conv_bias": True,
                "norm_op": f"torch.nn.modules.instancenorm.{norm}",
                "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": False,
    }
    return {
        "dataset_name": "Dataset999_Made",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": _STATISTICS, "1": _STATISTICS},
        "configurations": {"3d_fullres": configuration},
    }


def dataset(classes: int = 4, channels: int = 1) -> Dataset:
    """A ``dataset.json`` of as many labels and channels."""
    return {
        "channel_names": {str(k): ("CT" if k else "MRI") for k in range(channels)},
        "labels": {"background": 0} | {f"part {k}": k for k in range(1, classes)},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }


class Kind:
    """One kind of model.

    Attributes:
        plans: of it.
        dataset: of it.
        name: of the configuration that was trained.
        folds: how many there are.
        trainer: its name.
        axes: that may be mirrored.
    """

    def __init__(self, dims: int = 3) -> None:
        self.plans, self.dataset, self.name = plans(dims), dataset(), "3d_fullres"
        self.folds, self.trainer = 1, "nnUNetTrainer"
        self.axes: tuple[int, ...] | None = tuple(range(dims))

    @property
    def configuration(self) -> dict[str, Any]:
        found: dict[str, Any] = self.plans["configurations"]["3d_fullres"]
        return found


def _old_plans(kind: Kind) -> None:
    kind.configuration.pop("architecture")
    kind.configuration.update(
        UNet_class_name="PlainConvUNet",
        UNet_base_num_features=4,
        unet_max_num_features=8,
        n_conv_per_stage_encoder=[2, 2, 2],
        n_conv_per_stage_decoder=[2, 2],
        num_pool_per_axis=[2, 2, 2],
        pool_op_kernel_sizes=[[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        conv_kernel_sizes=[[3, 3, 3]] * 3,
        normalization_schemes=["CTNormalization"],
    )
    properties = kind.plans.pop("foreground_intensity_properties_per_channel")
    kind.plans["foreground_intensity_properties_by_modality"] = properties
    kind.dataset["modality"] = kind.dataset.pop("channel_names")


def _inherited(kind: Kind) -> None:
    kind.plans["configurations"]["3d_half"] = {"inherits_from": "3d_fullres", "spacing": [2, 2, 2]}
    kind.plans["configurations"]["3d_bs5"] = {"inherits_from": "3d_half", "batch_size": 5}
    kind.name = "3d_bs5"


def _masked(kind: Kind) -> None:
    kind.configuration["use_mask_for_norm"] = [True]


def _rescaled(kind: Kind) -> None:
    kind.configuration["normalization_schemes"] = ["RescaleTo01Normalization"]


def _unscaled(kind: Kind) -> None:
    kind.configuration["normalization_schemes"] = ["NoNormalization"]


def _colours(kind: Kind) -> None:
    kind.configuration["normalization_schemes"] = ["RGBTo01Normalization"]


def _two_channels(kind: Kind) -> None:
    kind.dataset = dataset(4, 2)
    kind.configuration["normalization_schemes"] = ["ZScoreNormalization", "CTNormalization"]
    kind.configuration["use_mask_for_norm"] = [True, False]


def _coarse_axis(kind: Kind) -> None:
    kind.plans.update(transpose_forward=[1, 0, 2], transpose_backward=[1, 0, 2])
    kind.configuration["spacing"] = [5.0, 1.0, 1.1]
    kind.configuration["patch_size"] = [8, 24, 24]


def _coarse_last_axis(kind: Kind) -> None:
    kind.configuration["spacing"] = [1.0, 1.1, 4.5]


def _by_torch(kind: Kind) -> None:
    for what in ("data", "seg", "probabilities"):
        kind.configuration[f"resampling_fn_{what}"] = "resample_torch_fornnunet"
        kind.configuration[f"resampling_fn_{what}_kwargs"] = {
            "is_seg": what == "seg", "force_separate_z": False, "memefficient_seg_resampling": False
        }  # fmt: skip


def _by_torch_in_planes(kind: Kind) -> None:
    _by_torch(kind)
    _coarse_last_axis(kind)
    for what in ("data", "probabilities"):
        kind.configuration[f"resampling_fn_{what}_kwargs"]["force_separate_z"] = None


def _not_resampled(kind: Kind) -> None:
    for what in ("data", "seg", "probabilities"):
        kind.configuration[f"resampling_fn_{what}"] = "no_resampling_hack"
        kind.configuration[f"resampling_fn_{what}_kwargs"] = {}


def _regions(kind: Kind) -> None:
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "small": 3, "ignore": 4}
    kind.dataset |= {"labels": labels, "regions_class_order": [3, 1, 2]}
    kind.folds = 3


def _many_classes(kind: Kind) -> None:
    kind.dataset = dataset(118)


def _residual(kind: Kind) -> None:
    architecture = kind.configuration["architecture"]
    architecture["network_class_name"] = (
        "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    )
    given = architecture["arch_kwargs"]
    given["n_blocks_per_stage"] = [1, 2, 3]
    del given["n_conv_per_stage"]
    given["n_conv_per_stage_decoder"] = [1, 1]
    kind.folds = 2


def _batch_norm(kind: Kind) -> None:
    kind.trainer = "nnUNetTrainerBN"


def _large_patch(kind: Kind) -> None:
    kind.configuration["patch_size"] = [64, 40, 72]
    kind.axes = None


def _turned(kind: Kind) -> None:
    kind.plans["image_reader_writer"] = "NibabelIOWithReorient"


def _cascade(kind: Kind) -> None:
    low = copy.deepcopy(kind.configuration) | {"spacing": [2.5, 2.5, 2.5]}
    low["next_stage"] = "3d_cascade_fullres"
    kind.plans["configurations"]["3d_lowres"] = low
    kind.plans["configurations"]["3d_cascade_fullres"] = {
        "inherits_from": "3d_fullres", "previous_stage": "3d_lowres"
    }  # fmt: skip
    kind.name = "3d_cascade_fullres"


def _slices(kind: Kind) -> None:
    kind.configuration["spacing"] = [1.2, 1.1]


KINDS: dict[str, tuple[Callable[[Kind], None], int]] = {
    **{
        one.__name__.removeprefix("_"): (one, 3)
        for one in (
            *(_old_plans, _inherited, _masked, _rescaled, _unscaled, _colours, _two_channels),
            *(_coarse_axis, _coarse_last_axis, _by_torch, _by_torch_in_planes, _not_resampled),
            *(_regions, _many_classes, _residual, _batch_norm, _large_patch, _turned, _cascade),
        )
    },
    "slices": (_slices, 2),
}


def images(kind: Kind, folder: Path) -> Iterator[tuple[str, list[Path]]]:
    """Smooth noise in a few shapes, spacings and orientations, with zero borders and holes."""
    rng = np.random.default_rng(7)
    channels = len(kind.dataset.get("channel_names", kind.dataset.get("modality")))
    folder.mkdir()
    for number, (shape, spacing, codes) in enumerate(
        (
            ((30, 37, 21), (1.3, 0.9, 2.2), "LPS"),
            ((26, 19, 33), (0.7, 0.8, 0.9), "RAS"),
            ((22, 28, 9), (1.0, 1.0, 4.5), "PSL"),
        )
    ):
        affine = nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(codes), shape)
        affine = affine @ np.diag([*spacing, 1])
        paths = []
        for channel in range(channels):
            values = ndimage.gaussian_filter(rng.normal(size=shape), 2)
            values = 1 + 250 * (values - values.min()) / np.ptp(values)
            values[:3], values[:, -4:], values[9:12, 9:12, 4:6] = 0, 0, 0
            paths.append(folder / f"case{number}_{channel:04d}.nii.gz")
            nib.save(nib.Nifti1Image(values.astype(np.float32), affine), paths[-1])
        yield f"case{number}", paths


def train(kind: Kind, name: str, folder: Path) -> Path:
    """A results folder whose weights are random."""
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    model = folder / f"{kind.trainer}__nnUNetPlans__{name}"
    model.mkdir(parents=True)
    (model / "plans.json").write_text(json.dumps(kind.plans))
    (model / "dataset.json").write_text(json.dumps(kind.dataset))
    manager = PlansManager(copy.deepcopy(kind.plans))
    configuration = manager.get_configuration(name)
    inputs = determine_num_input_channels(manager, configuration, kind.dataset)
    outputs = manager.get_label_manager(kind.dataset).num_segmentation_heads
    trainer = recursive_find_trainer_class_by_name(kind.trainer)
    for fold in range(kind.folds):
        torch.manual_seed(fold)
        network = trainer.build_network_architecture(manager, configuration, inputs, outputs, False)
        for weight_name, value in network.state_dict().items():
            if value.is_floating_point() and "running_var" not in weight_name:
                value.add_(0.2 * torch.randn_like(value))
        _balance(network, inputs, configuration.patch_size)
        (model / f"fold_{fold}").mkdir()
        checkpoint = {
            "network_weights": network.state_dict(),
            "trainer_name": kind.trainer,
            "init_args": {"configuration": name},
            "inference_allowed_mirroring_axes": kind.axes,
            "_best_ema": np.float32(0.5),
        }
        torch.save(checkpoint, model / f"fold_{fold}" / "checkpoint_final.pth")
    return model


def _balance(network: Any, inputs: int, patch: list[int]) -> None:
    """Shift the last biases so that every class occurs."""
    network.eval()
    with torch.no_grad():
        logits = network(torch.randn(1, inputs, *patch))[0].flatten(1)
        head = network.decoder.seg_layers[-1]
        head.weight /= logits.std(dim=1).reshape(-1, *[1] * (head.weight.dim() - 1))
        head.bias.copy_((head.bias - logits.mean(dim=1)) / logits.std(dim=1))


def by_nnunet(kind: Kind, model: Path, paths: list[Path], out: Path, before: Any) -> Any:
    """nnU-Net's own mask, ``(z, y, x)``; also written to a file."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), tuple(range(kind.folds)))
    reader = predictor.plans_manager.image_reader_writer_class()
    image, properties = reader.read_images([str(path) for path in paths])
    mask = predictor.predict_single_npy_array(image, properties, before, None, False)
    reader.write_seg(mask, str(out), properties)
    return mask


def compare(name: str, scratch: Path) -> None:
    """Print how many voxels of a kind differ."""
    from nestseg.bundle.bundle import load_bundle
    from nestseg.bundle.in_process import InProcess
    from nestseg.nnunet.importing import import_model
    from nestseg_prep.nifti import read_nifti
    from nestseg_prep.transforms import LoadVolumed

    change, dims = KINDS[name]
    kind = Kind(dims)
    change(kind)
    first = train(kind, "3d_lowres", scratch / "made") if name == "cascade" else None
    model = train(kind, kind.name, scratch / "made")
    import_model(model, scratch / name)
    bundle = load_bundle(scratch / name)
    for case, paths in images(kind, scratch / "images"):
        before = None
        if first is not None:
            before = by_nnunet(kind, first, paths, scratch / f"{case}_first.nii.gz", None)
            before = before.astype(np.float32)[None]  # as it is read from a file
        by_nnunet(kind, model, paths, scratch / f"{case}.nii.gz", before)
        theirs = np.asarray(nib.load(scratch / f"{case}.nii.gz").dataobj)
        if len(paths) == 1:
            ours = bundle.predict(read_nifti(paths[0])).mask.array
        else:
            assert isinstance(bundle._predictor, InProcess)
            (one,) = bundle._predictor.models
            one.preprocessing.transforms = tuple(
                LoadVolumed("image") if isinstance(step, LoadVolumed) else step
                for step in one.preprocessing.transforms
            )
            data = one.preprocessing({"image": list(map(str, paths))})
            found = one.inferer(data["image"][None], one.network)
            ours = one.postprocessing({**data, "pred": found[0]})["pred"][0].numpy()
        values, counts = np.unique(theirs, return_counts=True)
        print(
            f"{name} {case}: {int((ours != theirs).sum())} of {theirs.size} differ; "
            f"{len(values)} labels, the rarest {counts.min()}",
            flush=True,
        )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for one in sys.argv[1:] or KINDS:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["XDG_STATE_HOME"] = folder
            compare(one, Path(folder))
