"""The network of the comparison: a 3D U-Net with batch norm on CT at 1.5 mm, 14 classes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.peers.phantom_labels import LABELS

SPACING_MM = 1.5
PATCH = (96, 96, 96)
CLIP_HU = 1000.0
PER_UNIT_HU = 500.0  # what the network sees is HU / 500, clipped to ±2
CLASSES = len(LABELS)
WEIGHTS = Path(__file__).parent / "weights.pt"
ARGUMENTS: dict[str, Any] = {
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": CLASSES,
    "features": [32, 64, 128, 128],
    "topology": "unet",
    "norm": "batch",
    "act": "relu",
    "bias": False,
}


def build(*, transposed: bool = False) -> Any:
    """The network with its committed weights, in eval mode.

    Args:
        transposed: for an image ``(B, C, z, y, x)`` in the place of ``(B, C, x, y, z)``, as
            nnU-Net stores it: the same network, its kernels turned with the image.
    """
    import torch

    from nestseg.networks import GridUNet

    network = GridUNet(**ARGUMENTS).eval()
    weights = torch.load(WEIGHTS, map_location="cpu", weights_only=True)
    if transposed:
        weights = {
            key: value.permute(0, 1, 4, 3, 2).contiguous() if value.dim() == 5 else value
            for key, value in weights.items()
        }
    network.load_state_dict(weights)
    return network


def one_tile(net: Any, image: Any, patch: tuple[int, ...]) -> float:
    """Seconds for one tile, after one to warm up."""
    tile = image[(..., *(slice(0, n) for n in patch))]
    net(tile)
    start = time.perf_counter()
    net(tile)
    return time.perf_counter() - start
