"""A network cut off behind one of its heads, whatever it is wrapped in."""

from __future__ import annotations

import torch
from torch import nn

from nestseg.networks.nodes import GridNetwork
from nestseg.networks.outputs import AccurateMode

_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def levels(network: nn.Module) -> tuple[int, ...]:
    """Columns of the heads that a network can be cut off at; empty if it has no grid of nodes."""
    grid = network.network if isinstance(network, AccurateMode) else network
    return tuple(grid.levels) if isinstance(grid, GridNetwork) else ()


def at_level(network: nn.Module, level: int) -> nn.Module:
    """The part of a network that its head at ``level`` needs, in the same memory format.

    Shallower heads stay where they need nothing else: they tell how sure the network is.

    Raises:
        ValueError: the network has no such head.
    """
    if level not in levels(network):
        raise ValueError(f"no head at level {level}")
    if isinstance(network, AccurateMode):
        grid = network.network.pruned(level, keep_shallower=True)
        part: nn.Module = AccurateMode(grid, network.activation)
    else:
        part = network.pruned(level, keep_shallower=True)  # type: ignore[operator]
    for weight in network.parameters():
        last = _LAST.get(weight.dim())
        if last and weight.is_contiguous(memory_format=last) and not weight.is_contiguous():
            part = part.to(memory_format=last)  # type: ignore[call-overload]
            break
    return part.train(network.training)
