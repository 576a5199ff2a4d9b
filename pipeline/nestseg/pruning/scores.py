"""How well a mask agrees with the truth: MONAI's metrics, per label, in mm."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice
from monai.networks.utils import one_hot
from torch import Tensor

from nestseg_prep.errors import InputError
from nestseg_prep.volume import Volume


@dataclass(frozen=True)
class CaseScores:
    """Scores of one mask, each ``(labels,)``; nan where there is nothing to compare.

    Attributes:
        dice: nan where the truth does not hold the label.
        surface_dice: part of both surfaces that lies within the tolerance of the other; nan where
            there is no surface.
        hd95_mm: 95th percentile of the distances between the surfaces, the larger way; nan unless
            there are both.
        one_sided: whether there is one surface without the other.
    """

    dice: Tensor
    surface_dice: Tensor
    hd95_mm: Tensor
    one_sided: Tensor


def score(mask: Volume, truth: Volume, labels: int, surface_tolerance_mm: float) -> CaseScores:
    """Score a mask.

    Args:
        mask: label map, on the grid of ``truth``.
        truth: label map.
        labels: number of labels; their values are 1, 2, …
        surface_tolerance_mm: of the surface Dice.

    Raises:
        InputError: the truth holds values that are no label.
    """
    strange = np.setdiff1d(truth.array, np.arange(labels + 1))
    if strange.size:
        raise InputError(f"the label map holds {strange[0]:g}; the bundle knows 0 to {labels}")
    pred, true = (_one_hot(volume, labels + 1) for volume in (mask, truth))
    spacing: Sequence[float] = truth.spacing
    if 1 in truth.shape:  # a plane: as a volume each of its voxels would be surface
        flat = truth.shape.index(1)
        pred, true = pred.squeeze(flat + 2), true.squeeze(flat + 2)
        spacing = [mm for axis, mm in enumerate(spacing) if axis != flat]
    there = [hot[0, 1:].flatten(1).any(1) for hot in (pred, true)]
    with warnings.catch_warnings():  # of labels without a surface, and of MONAI's own ageing
        warnings.filterwarnings("ignore", message="the (ground truth|prediction) of class")
        warnings.filterwarnings("ignore", message="monai.metrics", category=FutureWarning)
        surface_dice = compute_surface_dice(
            pred, true, [surface_tolerance_mm] * labels, spacing=spacing
        )
        hd95 = compute_hausdorff_distance(pred, true, percentile=95, spacing=spacing)
    return CaseScores(
        dice=compute_dice(pred, true, include_background=False)[0],
        surface_dice=surface_dice[0],
        hd95_mm=torch.where(there[0] & there[1], hd95[0], torch.nan),
        one_sided=there[0] ^ there[1],
    )


def mean(values: Sequence[Tensor]) -> float | None:
    """Mean over the labels of each case, then over the cases, as MONAI's ``"mean"`` has it.

    Args:
        values: ``(labels,)`` of each case.

    Returns:
        ``None`` if every value is nan.
    """
    return _number(torch.stack(list(values)).nanmean(dim=1).nanmean())


def mean_by_label(values: Sequence[Tensor]) -> list[float | None]:
    """Mean over the cases of each label; arguments as of :func:`mean`."""
    return [_number(value) for value in torch.stack(list(values)).nanmean(dim=0)]


def _one_hot(volume: Volume, channels: int) -> Tensor:
    labels = torch.from_numpy(np.ascontiguousarray(volume.array, dtype=np.int64))
    return one_hot(labels[None, None], num_classes=channels)


def _number(value: Tensor) -> float | None:
    return None if value.isnan() else round(value.item(), 6)
