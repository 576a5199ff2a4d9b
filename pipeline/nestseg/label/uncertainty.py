"""How unsure a bundle is of an image, as one number for it: what to label next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import torch
from torch import Tensor, nn

from nestseg.bundle.in_process import load_model
from nestseg.inferers.heads import EveryHeadInferer
from nestseg.networks.nodes import GridNetwork
from nestseg.networks.outputs import Activation, head_disagreement, mean_of_heads
from nestseg_prep.volume import Volume

Measure = Literal["head_disagreement", "ensemble_disagreement", "entropy"]
ENSEMBLE: Final = "unet_e"


def measures_of(network: nn.Module) -> tuple[Measure, ...]:
    """What can be measured with a network.

    Several heads disagree; those of a U-Net^e have a decoder each and are an ensemble.
    """
    if not isinstance(network, GridNetwork) or len(network.levels) < 2:
        return ("entropy",)
    ensemble = network.config["topology"] == ENSEMBLE
    return ("ensemble_disagreement" if ensemble else "head_disagreement", "entropy")


def disagreement(heads: Sequence[Tensor], activation: Activation) -> float:
    """Mean over the voxels of the divergence of the heads' probabilities, from 0 to 1.

    Args:
        heads: logits of each, ``(B, C, *spatial)``.
        activation: what makes probabilities of them.
    """
    return float(head_disagreement(heads, activation).mean())


def entropy(heads: Sequence[Tensor], activation: Activation) -> float:
    """Mean over the voxels of the entropy of the heads' mean probabilities, from 0 to 1.

    1 is as unsure as can be: all classes are equally likely. With a sigmoid each channel is a
    choice between two, and the mean over channels counts. Arguments as of :func:`disagreement`.
    """
    logits = mean_of_heads(heads, activation).to(torch.float64)
    if activation == "softmax":
        log_p = logits.log_softmax(dim=1)
        each = -(log_p.exp() * log_p).sum(dim=1) / math.log(logits.shape[1])
    else:
        log_p, log_q = nn.functional.logsigmoid(logits), nn.functional.logsigmoid(-logits)
        each = -(log_p.exp() * log_p + log_q.exp() * log_q) / math.log(2)
    return float(each.mean())


class Uncertainty:
    """A bundle that says how unsure it is, by one pass over an image.

    Args:
        bundle: folder of the bundle, with weights.

    Raises:
        InputError: its configs or weights cannot be used.
    """

    def __init__(self, bundle: Path) -> None:
        self._model = load_model(bundle)
        self._inferer = EveryHeadInferer(self._model.inferer)

    def measure(self, image: Volume) -> dict[Measure, float]:
        """Every measure of the network, over the voxels of an image as the network sees them."""
        _, given = self._model.preprocessed(image)
        with torch.no_grad():
            found = self._inferer(given[None].to(self._model.device), self._model.network)
        heads = [torch.as_tensor(one).float().cpu() for one in found]
        activation: Activation = "softmax" if heads[0].shape[1] > 1 else "sigmoid"
        measures = measures_of(self._model.network)
        scores: dict[Measure, float] = {"entropy": entropy(heads, activation)}
        if len(measures) > 1:
            scores[measures[0]] = disagreement(heads, activation)
        return scores
