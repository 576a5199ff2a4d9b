"""``python -m benchmarks.peers.nnunet``: the peer nnU-Net v2, in an environment of its own.

Its predictor gets our network with our weights, and plans that say what our bundle does: CT values
clipped to ±1000 HU and divided by 500, 1.5 mm, RAS. nnU-Net stores a volume as ``(z, y, x)``, so
the kernels are turned with it. Steps of half a tile, Gaussian weights, no mirroring; reading,
cropping, resampling and export are its own, with its defaults.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.peers import network
from benchmarks.peers.phantom_labels import LABELS

CONFIGURATION = "3d_fullres"
_RESAMPLING = "resample_data_or_seg_to_shape"


def plans(patch: list[int]) -> dict[str, Any]:
    """What nnU-Net's planner would have written."""
    cubic = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    linear = cubic | {"order": 1}
    nearest = linear | {"is_seg": True}
    configuration = {
        "data_identifier": "peers",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": patch,
        "spacing": [network.SPACING_MM] * 3,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": _RESAMPLING,
        "resampling_fn_data_kwargs": cubic,
        "resampling_fn_seg": _RESAMPLING,
        "resampling_fn_seg_kwargs": nearest,
        "resampling_fn_probabilities": _RESAMPLING,
        "resampling_fn_probabilities_kwargs": linear,
        "architecture": {},
    }
    values = {
        "mean": 0.0,
        "std": network.PER_UNIT_HU,
        "percentile_00_5": -network.CLIP_HU,
        "percentile_99_5": network.CLIP_HU,
    }
    return {
        "dataset_name": "Dataset001_peers",
        "plans_name": "peers",
        "image_reader_writer": "NibabelIOWithReorient",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "configurations": {CONFIGURATION: configuration},
        "foreground_intensity_properties_per_channel": {"0": values},
    }


def predictor(patch: list[int], overlap: float, *, transposed: bool) -> Any:
    """nnU-Net's own, with our network in it."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(plans(patch))
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": {name: number for number, name in LABELS.items()},
        "file_ending": ".nii.gz",
    }
    net = network.build(transposed=transposed)
    found = nnUNetPredictor(
        tile_step_size=1 - overlap,
        use_gaussian=True,
        use_mirroring=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    configuration = manager.get_configuration(CONFIGURATION)
    weights = [net.state_dict()]
    found.manual_initialization(net, manager, configuration, weights, dataset, "", None)
    return found


def forward(image: Path, out: Path, patch: list[int], overlap: float) -> dict[str, float]:
    """Sliding window and argmax on what the network sees; seconds."""
    import numpy as np
    import torch

    found = predictor(patch, overlap, transposed=False)
    tensor = torch.from_numpy(np.load(image))[None]
    with torch.inference_mode():
        said = {"tile_s": network.one_tile(found.network, tensor[None], tuple(patch))}
        start = time.perf_counter()
        labels = found.predict_sliding_window_return_logits(tensor).argmax(dim=0)
        said["forward_s"] = time.perf_counter() - start
    np.save(out, labels.numpy().astype(np.uint8))
    return said


def folder(images: Path, out: Path, patch: list[int], overlap: float) -> None:
    """A folder of NIfTI files to masks, as ``nnUNetv2_predict`` does."""
    found = predictor(patch, overlap, transposed=True)
    out.mkdir(parents=True, exist_ok=True)
    # Three processes each to preprocess and to export: what `nnUNetv2_predict` takes by default.
    found.predict_from_files(
        str(images),
        str(out),
        num_processes_preprocessing=3,
        num_processes_segmentation_export=3,
    )


def main() -> None:
    """Run one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["forward", "folder"])
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--patch", type=json.loads, default=list(network.PATCH))
    parser.add_argument("--overlap", type=float, default=0.5)
    given = parser.parse_args()
    said: dict[str, float] = {}
    if given.what == "forward":
        said = forward(given.images, given.out, given.patch, given.overlap)
    else:
        folder(given.images, given.out, given.patch, given.overlap)
    sys.stdout.flush()
    print(json.dumps(said))


if __name__ == "__main__":
    main()
