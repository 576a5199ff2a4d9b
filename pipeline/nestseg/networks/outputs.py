"""What the heads of one network say together: their mean, and how far they disagree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nestseg.networks.blocks import center_crop
from nestseg.networks.nodes import GridNetwork

Activation = Literal["softmax", "sigmoid"]


class AccurateMode(nn.Module):
    """A network in accurate mode: it answers with the mean of its heads, in eval mode.

    In training it is the network it holds. Zhou et al. 2018, section 3.2; the network by itself is
    the fast mode, which answers with its deepest head.

    Args:
        network: of several heads.
        activation: what turns its logits into probabilities.
    """

    def __init__(self, network: GridNetwork, activation: Activation = "softmax") -> None:
        super().__init__()
        self.network = network
        self.activation: Activation = activation
        self.geometry = network.geometry

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits for ``x`` ``(B, in_channels, *spatial)``, as of the network."""
        if self.training:
            out: Tensor | list[Tensor] = self.network(x)
            return out
        return mean_of_heads(self.network.forward_heads(x), self.activation)


def mean_of_heads(logits: Sequence[Tensor], activation: Activation) -> Tensor:
    """Logits whose probabilities are the mean of the heads' probabilities.

    The accurate mode of UNet++ (Zhou et al. 2018, section 3.2). It stays in logits, so that
    everything behind a network treats it like one head; averaging the logits themselves would give
    other probabilities.

    Args:
        logits: of each head, ``(B, C, *spatial)``, the main head first; larger heads (those of a
            valid network) are cropped to its size.
        activation: what turns these logits into probabilities.

    Returns:
        ``(B, C, *spatial)`` of the main head's size and dtype.

    Raises:
        ValueError: no heads.
    """
    heads = _stacked(logits)
    if activation == "softmax":
        mean = _log_mean_exp(heads.log_softmax(dim=2))
    else:  # the odds of the mean probability; the 1/K of both means cancels
        mean = F.logsigmoid(heads).logsumexp(dim=0) - F.logsigmoid(-heads).logsumexp(dim=0)
    return mean.to(logits[0].dtype)


def head_disagreement(logits: Sequence[Tensor], activation: Activation) -> Tensor:
    """How far the heads disagree at each voxel, from 0 (they are equal) to 1.

    The Jensen-Shannon divergence of the heads' class distributions: the mean Kullback-Leibler
    divergence of a head from the mean of all. Divided by the largest value that K heads over C
    classes can reach, log(min(K, C)), where each head is certain and as many classes as possible
    are named. A voxel that all heads are equally unsure about counts as agreed. With a sigmoid each
    channel is a distribution over two classes, and the most disputed channel counts.

    Args:
        logits: of each head, ``(B, C, *spatial)``, the main head first, finite; larger heads are
            cropped to its size.
        activation: what turns these logits into probabilities.

    Returns:
        ``(B, 1, *spatial)`` of the main head's size, float32 (float64 for float64 logits).

    Raises:
        ValueError: fewer than two heads, or a softmax over a single channel.
    """
    if len(logits) < 2:
        raise ValueError(f"{len(logits)} head: it takes two to disagree")
    if activation == "softmax" and logits[0].shape[1] < 2:
        raise ValueError("a softmax over one channel is always 1; use the sigmoid")
    # In sums over the heads, which is twice as fast as all of them at once. Classes lie along 1.
    total, certainty = torch.zeros(()), torch.zeros(())
    for head in logits:
        log_p = _log_p(_single(center_crop(head, logits[0])), activation)
        p = log_p.exp()
        total = total.to(p) + p
        certainty = certainty.to(p) + (p * log_p).sum(dim=1, keepdim=True)
    count, classes = len(logits), total.shape[1]
    doubt = torch.special.entr(total / count).sum(dim=1, keepdim=True)
    divergence = (doubt + certainty / count) / math.log(min(count, classes))
    disputed: Tensor = divergence.amax(dim=2)
    return disputed.clamp(0, 1)


def _log_p(z: Tensor, activation: Activation) -> Tensor:
    """``(B, classes, channels, *spatial)``: a softmax has one channel, a sigmoid two classes."""
    if activation == "softmax":
        return z.log_softmax(dim=1).unsqueeze(2)
    return torch.stack([F.logsigmoid(z), F.logsigmoid(-z)], dim=1)


def _single(z: Tensor) -> Tensor:
    """In at least float32: bfloat16 cannot tell 0.998 from 1."""
    return z.to(torch.promote_types(z.dtype, torch.float32))


def _stacked(logits: Sequence[Tensor]) -> Tensor:
    """``(K, B, C, *spatial)``."""
    if not logits:
        raise ValueError("no heads")
    return _single(torch.stack([center_crop(head, logits[0]) for head in logits]))


def _log_mean_exp(log_p: Tensor) -> Tensor:
    """The logarithm of the heads' mean probability; heads along axis 0."""
    return log_p.logsumexp(dim=0) - math.log(len(log_p))
