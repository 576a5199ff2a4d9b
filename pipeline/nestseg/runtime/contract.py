"""What a backend is given, and what it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nestseg_prep.errors import BundleError

Run = Callable[[Tensor], list[Tensor]]
"""A tile ``(B, C, *spatial)``, float32 → logits of each wanted head, float32, on its device.

What comes out belongs to the caller: the next tile changes nothing in it.
"""


class UnavailableError(BundleError):
    """A backend cannot do what is asked of it here; the text says why, in one line."""


@dataclass(frozen=True)
class Task:
    """One graph to build.

    Attributes:
        network: in eval mode, float32, on ``device``; never changed.
        shape: of the tiles, ``(B, C, *spatial)``.
        every_head: whether the logits of all heads are wanted, or those of the network alone.
        precision: ``"fp32"``, ``"bf16"`` or ``"int8"``.
        device: where it computes.
        threads: of a CPU.
        int8: folder of a calibrated model, if there is one.
    """

    network: nn.Module
    shape: tuple[int, ...]
    every_head: bool
    precision: str
    device: torch.device
    threads: int
    int8: Path | None = None


@dataclass(frozen=True)
class Built:
    """A graph that runs.

    Attributes:
        run: computes a tile of the task's shape.
        artefact: from which the same backend builds it again without the work; empty if it cannot.
    """

    run: Run
    artefact: bytes = b""


class Backend(Protocol):
    """A module of ``nestseg.runtime.backends``; its library is imported when a function runs."""

    FIXED_SHAPE: bool
    """Whether a graph takes tiles of its task's shape alone."""

    def version(self) -> str:
        """Of the library; an artefact is of no use to another. ``ImportError`` if it is absent."""

    def check(self, device: torch.device, precision: str) -> None:
        """Raise an ``UnavailableError`` if it cannot compute so on this device."""

    def build(self, task: Task, artefact: bytes = b"") -> Built:
        """Build a graph, from an artefact of the same task where there is one.

        Raises whatever the library raises; who calls goes on with another backend.
        """


def one_line(error: BaseException) -> str:
    """The kind of an error and the first line of its text, short; a library knows no patient."""
    line = (str(error).strip().splitlines() or [""])[0][:160]
    return line if isinstance(error, UnavailableError) else f"{type(error).__name__}: {line}"


class Heads(nn.Module):
    """A network that answers with a tuple, as exporters want it."""

    def __init__(self, network: nn.Module, *, every: bool) -> None:
        super().__init__()
        self.network = network
        self.every = every

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Logits of every head of the network, or of itself alone."""
        return tuple(self.answers(x))

    def answers(self, x: Tensor) -> list[Tensor]:
        """The same as a list."""
        network: Any = self.network
        return list(network.forward_heads(x)) if self.every else [network(x)]
