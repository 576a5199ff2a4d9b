"""What a bundle's postprocessing makes of the network's channels, found out by trial.

A postprocessing is code: no metadata say which value of the mask stands for which channel, or
whether two labels may share a voxel. So small images go through it, in which chosen channels are
certain. A softmax or an argmax lets the most certain channel win; thresholds let all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Compose, Invertd

from nestseg.bundle.info import ChannelMeaning
from nestseg_prep.errors import InputError

_SIDE: Final = 8  # voxels of a trial image
_SURE: Final = 20.0  # a logit that any threshold and softmax takes for certain
_SURER: Final = 30.0
_MOST_IN_PAIRS: Final = 32  # channels that are tried two at a time


def try_channels(postprocessing: Compose, channels: int, *, background: bool) -> ChannelMeaning:
    """Find out what the channels of a network's output stand for.

    Args:
        postprocessing: of a bundle, without what writes files.
        channels: of the network's output.
        background: whether channel 0 is named so. One that is not is still the background if a
            voxel has it of which no channel is certain, as with one-hot channels.
    """
    first, trial = 0 if background else 1, _Trial(postprocessing, channels)
    try:
        nothing = trial.run({})
        kept = background and len(nothing) == channels  # a background that was not cut off
        first = 0 if kept or bool(nothing.any()) else 1
        alone = [trial.value({channel: _SURE}, first) for channel in range(channels)]
    except Exception:  # noqa: BLE001  it needs more than an image without metadata
        return ChannelMeaning(first)
    channel_of: dict[int, int] = {}
    for channel, value in enumerate(alone):
        if value:
            channel_of.setdefault(value, channel)
    everything = dict.fromkeys(range(channels), _SURE)
    found = trial.run(everything)
    if len(found) > 1 and bool((found[1 - first :].sum(dim=0) > 1).any()):
        return ChannelMeaning(first, channel_of, overlap=True)
    most = [trial.value(everything | {channel: _SURER}, first) for channel in range(channels)]
    if most == alone or channels > _MOST_IN_PAIRS:  # the most certain channel wins
        return ChannelMeaning(first, channel_of)
    hidden_by = {
        value: tuple(
            other
            for other in range(channels)
            if alone[other] not in (0, value)
            and trial.value({channel: _SURER, other: _SURE}, first) == alone[other]
        )
        for value, channel in channel_of.items()
    }
    return ChannelMeaning(first, channel_of, hidden_by)


class _Trial:
    """Small images through a postprocessing, as if they lay as the network saw them."""

    def __init__(self, postprocessing: Compose, channels: int) -> None:
        flat: Any = postprocessing
        kept = [step for step in flat.flatten().transforms if not isinstance(step, Invertd)]
        self._steps, self._channels = Compose(kept), channels

    def run(self, certain: Mapping[int, float]) -> torch.Tensor:
        """What comes of an image in which some channels have that logit, and others none."""
        logits = torch.full((self._channels, *(_SIDE,) * 3), -_SURE)
        for channel, logit in certain.items():
            logits[channel] = logit
        return torch.as_tensor(self._steps({"pred": MetaTensor(logits)})["pred"])

    def value(self, certain: Mapping[int, float], first: int) -> int:
        """The one label that the same image gets.

        Raises:
            ValueError: it gets several, or something else.
        """
        found = np.unique(np.asarray(merged(self.run(certain), first, "")))
        if len(found) != 1 or found[0] != int(found[0]) or found[0] < 0:
            raise ValueError("not one label")
        return int(found[0])


def separate(found: Any, first: int, bundle: str) -> MetaTensor:
    """The channels of a postprocessed output ``(C, i, j, k)`` that are labels, 0 or 1 a voxel.

    Raises:
        InputError: they hold something else.
    """
    found = found if isinstance(found, MetaTensor) else MetaTensor(torch.as_tensor(found))
    if not bool(((found == 0) | (found == 1)).all()):
        raise InputError(
            f"{bundle}: its postprocessing leaves {found.shape[0]} channels that are not labels; "
            "end it with AsDiscreted"
        )
    kept = found[1 - first :]
    return MetaTensor(kept, affine=found.affine, meta=found.meta)


def merged(found: Any, first: int, bundle: str) -> MetaTensor:
    """A label map ``(1, i, j, k)`` from a postprocessed output ``(C, i, j, k)``.

    Channels that overlap nowhere make one map: ``first`` for the first of them, and so on. If that
    is 0, the background, it yields to any other channel.

    Raises:
        InputError: two channels claim a voxel, or they are not labels at all.
    """
    if found.shape[0] == 1:
        return found if isinstance(found, MetaTensor) else MetaTensor(torch.as_tensor(found))
    labels = separate(found, first, bundle)
    if bool((labels.sum(dim=0) > 1).any()):
        raise InputError(
            f"{bundle}: its labels overlap, and nestseg could not find out beforehand that they "
            "may; end its postprocessing with a step that merges the channels"
        )
    numbers = torch.arange(1, len(labels) + 1, device=labels.device)
    one = (labels * numbers.reshape(-1, *(1,) * (labels.dim() - 1))).sum(dim=0, keepdim=True)
    return MetaTensor(one, affine=labels.affine, meta=labels.meta)
