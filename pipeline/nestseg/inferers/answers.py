"""What a network answers to a tile: logits, and how far its answers to the same tile disagree."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from nestseg.networks.blocks import center_crop
from nestseg.networks.outputs import AccurateMode, head_disagreement, mean_of_heads
from nestseg_prep.geometry import Geometry


class Answers:
    """A network that answers with its logits and, as one more channel, with its disagreement.

    Each tile is answered by every head of the network, and again for every mirrored copy of the
    tile. The logits are the network's own where nothing is mirrored. Otherwise they are the
    logarithm of the mean probability over the copies: the network's own answer to each, its other
    heads aside. The disagreement is the Jensen-Shannon divergence of all answers, those of every
    head to every copy, as of :func:`nestseg.networks.outputs.head_disagreement`; without a second
    answer there is no such channel.

    Args:
        network: in eval mode, with a ``geometry``; its classes exclude each other (softmax).
        mirrored: spatial axes of the tile along which it is mirrored, alone and together.

    Attributes:
        network: that it was given.
        disagrees: whether the last channel is the disagreement; known once a tile is answered.
    """

    def __init__(self, network: Callable[..., Any], mirrored: Sequence[int] = ()) -> None:
        inner: Any = network
        self.network = network
        self.geometry: Geometry = inner.geometry
        self.copies = [
            axes for count in range(len(mirrored) + 1) for axes in combinations(mirrored, count)
        ]
        self.disagrees = False
        self._answer = _answer(network)

    def __call__(self, x: Tensor) -> Tensor:
        """``(B, C, *spatial)`` logits for ``x``, and one channel of disagreement if there is any.

        Args:
            x: ``(B, in_channels, *spatial)``.
        """
        if len(self.copies) == 1:
            logits, heads = self._answer(x)
            if len(heads) < 2:
                return logits
            self.disagrees = True
            return torch.cat([logits, head_disagreement(heads, "softmax").to(logits)], dim=1)
        self.disagrees = True
        sums = _Sums()
        for logits, heads in self._mirrored(x):
            sums.add(logits, heads)
        return torch.cat([sums.log_mean, sums.disagreement], dim=1).to(x.dtype)

    def _mirrored(self, x: Tensor) -> Iterator[tuple[Tensor, list[Tensor]]]:
        for axes in self.copies:
            dims = [2 + axis for axis in axes]
            logits, heads = self._answer(x.flip(dims))
            yield logits.flip(dims), [head.flip(dims) for head in heads]


class _Sums:
    """Running sums over answers, so that no more than one is held: JSD = H(mean p) - mean H(p)."""

    def __init__(self) -> None:
        self.own, self.every, self.entropy = torch.zeros(1), torch.zeros(1), torch.zeros(1)
        self.copies = self.answers = 0

    def add(self, logits: Tensor, heads: Sequence[Tensor]) -> None:
        self.own = self.own.to(logits.device) + logits.float().softmax(dim=1)
        self.copies += 1
        for head in heads:
            p = center_crop(head, logits).float().softmax(dim=1)
            self.every = self.every.to(p.device) + p
            self.entropy = self.entropy.to(p.device) + _entropy(p)
            self.answers += 1

    @property
    def log_mean(self) -> Tensor:
        """The logarithm of the mean probability ``(B, C, *spatial)``."""
        smallest = torch.finfo(torch.float32).tiny
        return (self.own / self.copies).clamp_min(smallest).log()

    @property
    def disagreement(self) -> Tensor:
        """``(B, 1, *spatial)``, 0 to 1."""
        divergence = _entropy(self.every / self.answers) - self.entropy / self.answers
        return (divergence / math.log(min(self.answers, self.every.shape[1]))).clamp(0, 1)


def _entropy(p: Tensor) -> Tensor:
    entropy: Tensor = torch.special.entr(p).sum(dim=1, keepdim=True)
    return entropy


def _answer(network: Callable[..., Any]) -> Callable[[Tensor], tuple[Tensor, list[Tensor]]]:
    """One pass: the network's own logits, and those of each of its heads."""
    inner: Any = network
    if isinstance(network, AccurateMode):
        every: Any = network.network.forward_heads
        activation = network.activation

        def accurate(x: Tensor) -> tuple[Tensor, list[Tensor]]:
            heads = every(x)
            return mean_of_heads(heads, activation), heads

        return accurate
    if hasattr(network, "forward_heads"):

        def several(x: Tensor) -> tuple[Tensor, list[Tensor]]:
            heads: list[Tensor] = inner.forward_heads(x)
            return heads[0], heads

        return several

    def single(x: Tensor) -> tuple[Tensor, list[Tensor]]:
        logits: Tensor = inner(x)
        return logits, [logits]

    return single
