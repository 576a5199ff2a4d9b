"""Softmax cross-entropies that do not weigh every voxel alike."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss


class BorderWeightedCELoss(_Loss):
    """Cross-entropy times a weight map, averaged over voxels (Ronneberger et al. 2015, eq. 1).

    ``-(1/N) Σ_x w(x) log p_{l(x)}(x)``; the paper sums instead of averaging, which the learning
    rate absorbs. A weight of 0 leaves a voxel out, as Çiçek et al. 2016 do with unlabelled voxels.

    The target carries its weights in a second channel, because a MONAI trainer hands one target to
    its loss; ``nestseg_prep.transforms.BorderWeightd`` makes it so.
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss, a scalar.

        Args:
            logits: ``(B, classes, *spatial)``, float.
            target: ``(B, 2, *spatial)``, float: class index and weight.

        Raises:
            ValueError: a target without the channel of weights.
        """
        if target.shape[1] != 2:
            raise ValueError(f"a target of {target.shape[1]} channels, expected label and weight")
        losses = F.cross_entropy(logits, target[:, 0].long(), reduction="none")
        return (target[:, 1] * losses).mean()


def linknet_class_weights(counts: Sequence[int]) -> list[float]:
    """``1 / log(1.02 + frequency / largest frequency)`` per class, as LinkNet weighs them.

    From the authors' training code (Chaurasia and Culurciello 2017); a class that never occurs
    weighs 1 / log 1.02 = 50.5, the most frequent one 1.42.

    Args:
        counts: voxels of each class in the training set.

    Raises:
        ValueError: no voxels at all.
    """
    if max(counts, default=0) <= 0:
        raise ValueError(f"no class occurs in {list(counts)}")
    return [1 / math.log(1.02 + count / max(counts)) for count in counts]


class ClassWeightedCELoss(nn.CrossEntropyLoss):
    """Cross-entropy whose classes weigh as in LinkNet, averaged by the weights of the voxels.

    Args:
        counts: voxels of each class in the training set.
    """

    def __init__(self, counts: Sequence[int]) -> None:
        super().__init__(weight=torch.tensor(linknet_class_weights(counts)))

    def forward(self, input: Tensor, target: Tensor) -> Tensor:  # noqa: A002  torch's name
        """The loss, a scalar.

        Args:
            input: logits ``(B, classes, *spatial)``, float.
            target: class indices ``(B, 1, *spatial)``, any dtype.
        """
        return super().forward(input, target[:, 0].long())
