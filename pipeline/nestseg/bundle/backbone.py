"""A grid on an encoder that a bundle is planned with, and the memory that its training takes."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from nestseg.bundle.memory import Counted, Network
from nestseg.networks.backbone_grid import BackboneUNet
from nestseg.networks.backbones import ENCODERS, TIMM
from nestseg.networks.topology import GRID_NAMES
from nestseg_prep.errors import InputError

WIDTHS: Final = (32, 64, 128, 256)
"""Channels of the decoder's levels: those of ``BackboneUNet``."""
_BYTES: Final = 2  # of a bfloat16


def parse(name: str) -> tuple[str, str]:
    """``"unetpp_densenet121"`` → topology and encoder.

    Raises:
        InputError: it is not such a name; the message lists those that are.
    """
    for prefix in sorted(GRID_NAMES, key=len, reverse=True):
        encoder = name.removeprefix(f"{prefix}_")
        if encoder != name and (encoder in ENCODERS or encoder.startswith(TIMM)):
            return GRID_NAMES[prefix], encoder
    raise InputError(
        f"--network {name}: not a grid on an encoder; write one of {', '.join(GRID_NAMES)}, an "
        f"underscore, and one of {', '.join(ENCODERS)} or {TIMM}NAME"
    )


def network(name: str, dims: int, classes: int) -> Network:
    """A grid on an encoder, with what a training step keeps; counted without computing anything.

    Args:
        name: as :func:`parse` takes it.
        dims: 2 or 3.
        classes: labels with the background.

    Raises:
        InputError: there is no such network in these dimensions.
    """
    topology, encoder = parse(name)
    try:
        with torch.device("meta"):
            built = BackboneUNet(dims, 1, classes, encoder, WIDTHS, topology)
    except ValueError as error:
        raise InputError(f"--network {name}: {error}; choose another") from error
    period = built.geometry.period[0]
    pools = ((2,) * dims,) * int(math.log2(period))
    return Network(topology, pools, WIDTHS, classes, _count(built.train(), encoder, period, dims))


def _count(built: BackboneUNet, encoder: str, period: int, dims: int) -> Counted:
    shape = (2 * period,) * dims
    weights = {id(parameter) for parameter in built.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if id(tensor) not in weights:
            kept[tensor.untyped_storage()._cdata] = tensor  # held, so that no other takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        built(torch.empty(2, 1, *shape, device="meta"))
    voxels = 2 * math.prod(shape)
    sizes = [
        t.numel() * (1 if t.is_floating_point() else t.element_size() / _BYTES)
        for t in kept.values()
    ]
    parameters = sum(parameter.numel() for parameter in built.parameters())
    return Counted(encoder, sum(sizes) / voxels, math.ceil(max(sizes) / voxels), parameters)
