"""The mean of what several bundles say of one image, on the voxels of the image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.special import entr

from nestseg.bundle.options import SegmentOptions
from nestseg.outputs.segmentation import STEP, Segmentation, stored, uncertainty_score
from nestseg_prep.errors import InputError
from nestseg_prep.volume import Volume

if TYPE_CHECKING:
    from nestseg.bundle.examining import Examined

PLANES = 8
"""Planes of the image that are averaged at a time."""

Probabilities = npt.NDArray[np.float32]


def combined(found: Sequence[Examined], volume: Volume, options: SegmentOptions) -> Segmentation:
    """Average the members' probabilities, each on its own way back, and see how they disagree.

    The disagreement is that between the members: the Jensen-Shannon divergence of their
    probabilities, divided by the largest that so many can reach.

    Args:
        found: of each member, with its probabilities.
        volume: the image.
        options: what to keep.
    """
    labels = np.empty(volume.shape, found[0].maps.labels.dtype, order="F")
    disagreement = np.empty(volume.shape, np.uint16, order="F")
    for planes in _slabs(volume):
        of_members = np.stack([_at(one, planes) for one in found])  # (members, C, i, j, planes)
        mean = of_members.mean(axis=0)
        labels[:, :, planes] = mean.argmax(axis=0)
        disagreement[:, :, planes] = stored(_divergence(of_members, mean))

    def probability(value: int) -> Volume:
        out = np.empty(volume.shape, np.uint16, order="F")
        for planes in _slabs(volume):
            mean = np.mean([_at(one, planes, value) for one in found], axis=0)
            out[:, :, planes] = stored(mean[0])
        return volume.with_voxels(out)

    kept = found[0].maps.probabilities
    classes = () if kept is None or not options.save_probabilities else range(len(kept))
    return Segmentation(
        volume.with_voxels(labels),
        uncertainty_score(labels, disagreement),
        volume.with_voxels(disagreement) if options.save_uncertainty else None,
        tuple(dict.fromkeys(note for one in found for note in one.notes)),
        ", ".join(dict.fromkeys(one.computed_by for one in found)),
        tuple(partial(probability, value) for value in classes),
    )


def _slabs(volume: Volume) -> Iterator[slice]:
    for first in range(0, volume.shape[2], PLANES):
        yield slice(first, min(first + PLANES, volume.shape[2]))


def _at(one: Examined, planes: slice, value: int | None = None) -> Probabilities:
    """Probabilities ``(C, i, j, planes)`` on the voxels of the image, of one label or all."""
    kept = one.maps.probabilities
    if kept is None or one.grid is None:
        raise InputError(
            "an ensemble takes bundles whose transforms turn, resample and pad the image, and no "
            "others; run them one by one"
        )
    wanted = kept if value is None else kept[value : value + 1]
    there = np.stack([one.grid.nearest(array, planes) for array in wanted])
    return there.astype(np.float32) * np.float32(STEP)


def _divergence(of_members: Probabilities, mean: Probabilities) -> Probabilities:
    """Jensen-Shannon divergence over its largest value, ``(i, j, planes)``."""
    largest = math.log(min(of_members.shape[:2]))
    spread = entr(mean).sum(axis=0) - entr(of_members).sum(axis=1).mean(axis=0)
    return np.asarray(spread / np.float32(largest), dtype=np.float32)
