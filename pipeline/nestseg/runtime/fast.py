"""A network that answers as it did, only sooner: what stands in its place before an inferer."""

from __future__ import annotations

from pathlib import Path
from threading import RLock
from typing import Any

import torch
from torch import Tensor, nn

from nestseg.networks.outputs import AccurateMode
from nestseg.runtime import choices
from nestseg.runtime.building import Way
from nestseg.runtime.choosing import ways
from nestseg.runtime.contract import Task, UnavailableError
from nestseg.runtime.graphs import Graphs
from nestseg.runtime.identity import network_digest
from nestseg_prep.errors import InputError


class FastNetwork:
    """Answers for a network: logits in float32, on the device of the tile.

    Attributes:
        network: that it answers for.
        geometry: of the network; ``None`` if it has none.
        graphs: what computes.
    """

    def __init__(self, network: nn.Module, graphs: Graphs, device: torch.device, int8: Path | None):
        self.geometry: Any = getattr(network, "geometry", None)
        self.graphs = graphs
        self.network = network
        self._device = device
        self._int8 = int8
        self._lock = RLock()  # a graph has one place for a tile, and one for its logits

    def __call__(self, x: Tensor) -> Tensor:
        """Logits ``(B, C, *out)`` for ``x`` ``(B, in_channels, *spatial)``, as of the network."""
        return self._answers(x, every=False)[0]

    def _answers(self, x: Tensor, *, every: bool) -> list[Tensor]:
        threads = torch.get_num_threads()
        task = Task(self.network, tuple(x.shape), every, "fp32", self._device, threads, self._int8)
        with self._lock, torch.no_grad():
            return self.graphs.run(x, task)


class FastHeads(FastNetwork):
    """Of a network with several heads."""

    def forward_heads(self, x: Tensor) -> list[Tensor]:
        """Logits of every head, as of the network's own ``forward_heads``."""
        return self._answers(x, every=True)


def graphs_of(network: FastNetwork | AccurateMode) -> Graphs:
    """What computes for a network that :func:`load` made."""
    inner: Any = network.network if isinstance(network, AccurateMode) else network
    graphs: Graphs = inner.graphs
    return graphs


def load(
    network: nn.Module,
    weights_sha256: str,
    device: torch.device,
    precision: choices.Precision = "fp32",
    runtime: choices.Runtime = "auto",
    int8: Path | None = None,
) -> FastNetwork | AccurateMode:
    """What answers in place of a network, by the library that is fastest here.

    Args:
        network: in eval mode, on the device, float32; a network in accurate mode gives one.
        weights_sha256: of the file that its weights came from.
        device: where it computes.
        precision: numbers it computes in; ``"auto"`` is the fastest that this machine has units
            for. bfloat16 and int8 change logits, and a few voxels of a mask.
        runtime: the library; ``"auto"`` measures those that are installed, once for each shape of
            tile, and remembers.
        int8: folder of the calibrated model, if there is one.

    Returns:
        A :class:`FastNetwork`, with ``forward_heads`` if the network has it, or one in
        :class:`~nestseg.networks.outputs.AccurateMode`.

    Raises:
        InputError: an unknown choice, or a library or calibrated model that was asked for by name
            is not there.
    """
    choices.check(precision, runtime)
    if isinstance(network, AccurateMode):
        inner: Any = load(network.network, weights_sha256, device, precision, runtime, int8)
        return AccurateMode(inner, network.activation).eval()
    there = int8 is not None and (int8 / "model.xml").is_file()
    if precision == "int8" and not there:
        raise InputError("int8 needs a calibrated model: `nestseg bundle quantize` makes one")
    try:
        candidates = ways(precision, runtime, device, int8=there)
    except UnavailableError as error:
        raise InputError(str(error)) from error
    lesser = precision == "bf16" and any(way.precision == "bf16" for way in candidates)
    reserve = Way("torch", "bf16" if lesser else "fp32")
    digest = network_digest(network, weights_sha256)
    graphs = Graphs(digest, candidates, reserve, at_once=runtime != "auto")
    if precision == "bf16" and not lesser:
        graphs.notes = ("computed in float32: this device has no units for bfloat16",)
    kind = FastHeads if hasattr(network, "forward_heads") else FastNetwork
    return kind(network, graphs, device, int8 if there else None)
