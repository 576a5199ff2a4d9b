"""What a network says of an image, voxel by voxel, in as few bytes as it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nestseg.bundle.linear_back import LinearBack
from nestseg.inferers import Answers, OverlapTileInferer
from nestseg.outputs.segmentation import Stored, stored


@dataclass(frozen=True)
class Maps:
    """On the grid that the network saw.

    Attributes:
        labels: ``(i, j, k)``, the most probable label: uint8, or uint16 for more than 256 of them.
        disagreement: ``(i, j, k)``, if there is any.
        probabilities: ``(C, i, j, k)``, if they were to be kept.
    """

    labels: npt.NDArray[Any]
    disagreement: Stored | None
    probabilities: Stored | None


def compute(
    image: Tensor,
    answers: Answers,
    inferer: OverlapTileInferer,
    *,
    keep_probabilities: bool,
    back: LinearBack | None = None,
) -> Maps:
    """Reduce what a network answers to an image while it is stitched, slab by slab.

    Args:
        image: ``(channels, i, j, k)`` on the network's device.
        answers: of the network.
        inferer: that stitches.
        keep_probabilities: whether the softmax of the logits is kept.
        back: is shown all logits, and takes them to the voxels of the image.
    """
    shape = tuple(image.shape[1:])
    labels: npt.NDArray[Any] | None = None
    disagreement: Stored | None = None
    probabilities: Stored | None = None
    with torch.no_grad():
        for slab in inferer.slabs(image[None], answers):
            classes = slab.values.shape[1] - answers.disagrees
            logits, rest = slab.values[0, :classes], slab.values[0, classes:]
            if labels is None:  # only now the channels are known
                labels = np.empty(shape, np.uint8 if classes <= 256 else np.uint16)
                disagreement = np.empty(shape, np.uint16) if answers.disagrees else None
                probabilities = (
                    np.empty((classes, *shape), np.uint16) if keep_probabilities else None
                )
            # The same as argmax over the first axis, which torch takes ten times as long for.
            most = logits.max(dim=0).indices
            most = most.to(torch.uint8) if classes <= 256 else most
            labels[slab.place] = most.cpu().numpy()
            if back is not None:
                back.add(slab.axis, slab.start, logits, most)
            if disagreement is not None:
                disagreement[slab.place] = stored(rest[0].float().cpu().numpy())
            if probabilities is not None:
                softmax = logits.float().softmax(dim=0)
                probabilities[slab.place] = stored(softmax.cpu().numpy())
    if labels is None:
        raise ValueError("an image without voxels has no labels")
    return Maps(labels, disagreement, probabilities)
