"""torch as it is: norms folded, channels last, weights in bfloat16 where that is wanted."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nestseg.runtime.contract import Built, Heads, Run, Task, UnavailableError
from nestseg.runtime.folding import folded

FIXED_SHAPE = False
_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
_KINDS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def version() -> str:
    """Of torch."""
    return str(torch.__version__)


def check(device: torch.device, precision: str) -> None:
    """Raise an ``UnavailableError`` for what only a calibrated model has."""
    if precision not in _KINDS:
        raise UnavailableError(f"torch does not compute in {precision} on {device.type}")


def build(task: Task, artefact: bytes = b"") -> Built:
    """Prepare a copy of the network; there is nothing that would be worth keeping."""
    del artefact
    network = prepared(task)
    return Built(calling(network.answers, task))


def prepared(task: Task) -> Heads:
    """A copy of the network, as torch runs it fastest."""
    network = folded(task.network).to(task.device, _KINDS[task.precision])
    for weight in network.parameters():
        if (last := _LAST.get(weight.dim())) is not None:
            weight.data = weight.data.to(memory_format=last)
        weight.requires_grad_(False)
    return Heads(network, every=task.every_head).eval()


def calling(network: nn.Module | Run, task: Task) -> Run:
    """What brings tiles into the network's format, and its logits back to float32."""
    kind = _KINDS[task.precision]

    def run(x: Tensor) -> list[Tensor]:
        with torch.no_grad():
            tile = x.to(task.device, kind, memory_format=_LAST.get(x.dim(), torch.preserve_format))
            heads = network(tile)
            return [z.to(torch.float32, memory_format=torch.contiguous_format) for z in heads]

    return run
