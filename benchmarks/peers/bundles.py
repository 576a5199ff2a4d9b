"""The bundles of the comparison, written by script: ours, and what MONAI's users write themselves.

Both hold the same network and the same weights. The stock config is what MONAI's tutorials and its
Model Zoo do: LoadImaged, Orientationd, Spacingd, SlidingWindowInferer with Gaussian weights,
Invertd of the logits, argmax, SaveImaged.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks.peers import network
from benchmarks.peers.phantom_labels import LABELS
from benchmarks.peers.ways import Tiling

PATTERN = Path(__file__).parents[2] / "bundles" / "ct_trunk_unetpp" / "configs"
SMALLEST_MM = 40
INT8 = "int8"
# How the truth is read, for calibration; the network is trained elsewhere.
_TRUTH = {
    "validate": {
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "nestseg_prep.transforms.LoadVolumed", "keys": ["image", "label"]}
            ],
        }
    }
}


def write(home: Path, patch: tuple[int, int, int], tiling: Tiling) -> Path:
    """A bundle with ``inference.json`` for nestseg and ``stock.json`` for MONAI alone.

    Args:
        home: where it is written anew; a calibrated model in ``int8`` there is copied into it.
        patch: spatial shape of a tile.
        tiling: how a volume is cut.
    """
    folder = home / f"bundle {tiling.name}".replace(" ", "_")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    shutil.copyfile(network.WEIGHTS, folder / "models" / "model.pt")
    if (home / INT8).is_dir():
        shutil.copytree(home / INT8, folder / "models" / INT8)
    configs = {
        "inference.json": _ours(patch, tiling),
        "stock.json": _stock(patch, tiling.overlap),
        "train.json": _TRUTH,
        "evaluate.json": {},
        "metadata.json": _metadata(),
    }
    for name, config in configs.items():
        (folder / "configs" / name).write_text(json.dumps(config, indent=4) + "\n")
    return folder


def _ours(patch: tuple[int, int, int], tiling: Tiling) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((PATTERN / "inference.json").read_text())
    config["load"][2]["pixdim"] = [network.SPACING_MM] * 3
    config["intensity"] = [_intensity()]
    config["out_channels"] = network.CLASSES
    config["network_def"] = {"_target_": "nestseg.networks.GridUNet", **network.ARGUMENTS}
    config["roi_size"], config["overlap"] = list(patch), tiling.overlap
    for name in ("background_at_most", "roi_size_max"):  # what tells tilings apart is in `more`
        config["inferer"].pop(name, None)
    config["inferer"] |= tiling.more
    # As the stock config: the logits go back to the image, and the argmax comes last.
    argmax, invert, *rest = config["postprocessing"]["transforms"]
    config["postprocessing"]["transforms"] = [invert | {"nearest_interp": False}, argmax, *rest]
    config["selection"]["extent_mm"][0] = SMALLEST_MM
    return config


def _stock(patch: tuple[int, int, int], overlap: float) -> dict[str, Any]:
    before = [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
        {
            "_target_": "Spacingd",
            "keys": "image",
            "pixdim": [network.SPACING_MM] * 3,
            "mode": "bilinear",
        },
        _intensity(),
    ]
    after = [
        {
            "_target_": "Invertd",
            "keys": "pred",
            "transform": "@preprocessing",
            "orig_keys": "image",
            "nearest_interp": False,
            "to_tensor": True,
        },
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
        {
            "_target_": "SaveImaged",
            "keys": "pred",
            "output_dir": "@output_dir",
            "output_postfix": "seg",
            "output_dtype": "$np.uint8",
            "separate_folder": False,
            "resample": False,
        },
    ]
    return {
        "imports": ["$import glob", "$import numpy as np", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/data'",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network_def": {"_target_": "nestseg.networks.GridUNet", **network.ARGUMENTS},
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": before},
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': one} for one in sorted(glob.glob(@dataset_dir + '/*'))]",
            "transform": "@preprocessing",
        },
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@dataset",
            "batch_size": 1,
            "num_workers": 0,
        },
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": list(patch),
            "sw_batch_size": 1,
            "overlap": overlap,
            "mode": "gaussian",
        },
        "postprocessing": {"_target_": "Compose", "transforms": after},
        "handlers": [
            {
                "_target_": "CheckpointLoader",
                "load_path": "$@bundle_root + '/models/model.pt'",
                "load_dict": {"model": "@network"},
            }
        ],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
        },
        "run": ["$@evaluator.run()"],
    }


def _intensity() -> dict[str, Any]:
    high = network.CLIP_HU / network.PER_UNIT_HU
    return {
        "_target_": "ScaleIntensityRanged",
        "keys": "image",
        "a_min": -network.CLIP_HU,
        "a_max": network.CLIP_HU,
        "b_min": -high,
        "b_max": high,
        "clip": True,
    }


def _metadata() -> dict[str, Any]:
    config: dict[str, Any] = json.loads((PATTERN / "metadata.json").read_text())
    channels = {str(number): name for number, name in LABELS.items()}
    outputs = config["network_data_format"]["outputs"]["pred"]
    outputs["num_channels"], outputs["channel_def"] = network.CLASSES, channels
    config["name"] = config["description"] = "3D U-Net for benchmarks on phantoms"
    for key in ("plausibility", "segment_codes"):
        config.pop(key, None)
    return config
