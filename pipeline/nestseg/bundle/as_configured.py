"""A bundle run as its config says, whatever its inferer and postprocessing are."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Compose, Invertd, SaveImage, SaveImaged, SpatialResample, Transform

from nestseg.bundle import packages, way_back
from nestseg.bundle.building import root_cause
from nestseg.bundle.model import Model
from nestseg_prep.affine import corner_distance
from nestseg_prep.errors import InputError
from nestseg_prep.volume import Volume

_SIDE: Final = 8  # voxels of what a postprocessing is probed with
_SURE: Final = 20.0  # a logit that any threshold and softmax takes for certain
_SAME_PLACE_MM: Final = 1e-3

Array = npt.NDArray[Any]


def mask(model: Model, volume: Volume) -> Array:
    """The labels that a bundle's own inferer and postprocessing give an image.

    Args:
        model: of the bundle.
        volume: the image.

    Returns:
        ``(i, j, k)`` on the voxels of the image, uint8 or uint16.

    Raises:
        InputError: the image does not suit the network, a package is missing, or what comes out is
            no label map.
        RuntimeError: it lies on another grid than the image.
    """
    data, image = model.preprocessed(volume)
    try:
        with torch.no_grad(), _precision(model):
            found = model.inferer(image[None].to(model.device), model.network_at(None))
    except Exception as error:
        raise _explained(error, model, image.shape[0]) from error
    labels = model.postprocessing({**data, "pred": found[0]})["pred"]
    labels = _resampled(labels_of_channels(labels, model.first, model.info.name), volume, model)
    kind = np.uint8 if max(model.info.labels, default=0) < 256 else np.uint16
    array = way_back.on_source_grid(labels, volume, kind)
    model.info.check_named(array)
    return array


def first_value(postprocessing: Compose, channels: int, *, background: bool) -> int:
    """What channel 0 stands for in a mask, where a postprocessing leaves a channel a label.

    Args:
        postprocessing: of a bundle, without what writes files.
        channels: of the network's output.
        background: whether channel 0 is named so.

    Returns:
        0 if it is the background: by its name, or since a voxel of which no channel is certain has
        one nonetheless, as with one-hot channels. Else 1.
    """
    try:
        empty = _tried(postprocessing, torch.full((channels, *(_SIDE,) * 3), -_SURE))
    except Exception:  # noqa: BLE001  it needs more than an image without metadata
        return 0 if background else 1
    return 0 if background or bool(empty.any()) else 1


def values(postprocessing: Compose, channels: int, first: int) -> dict[int, int]:
    """Which value in the mask stands for which channel of the network's output.

    Found out by trial: each channel in turn is made the only certain one of a small image.

    Args:
        postprocessing: of a bundle, without what writes files.
        channels: of the network's output.
        first: of :func:`first_value`.

    Returns:
        Value → channel, without the background; empty if that cannot be found out.
    """
    found: dict[int, int] = {}
    for channel in range(channels):
        logits = torch.full((channels, *(_SIDE,) * 3), -_SURE)
        logits[channel] = _SURE
        try:
            out = labels_of_channels(_tried(postprocessing, logits), first, "")
            kinds = np.unique(np.asarray(out)).tolist()
        except Exception:  # noqa: BLE001  it needs more than an image without metadata
            return {}
        if len(kinds) != 1 or kinds[0] != int(kinds[0]) or kinds[0] < 0:
            return {}
        if kinds[0]:
            found.setdefault(int(kinds[0]), channel)
    return found


def _tried(postprocessing: Compose, logits: torch.Tensor) -> Any:
    """What a postprocessing makes of an image that lies as the network saw it."""
    flat: Any = postprocessing
    steps = [step for step in flat.flatten().transforms if not isinstance(step, Invertd)]
    return Compose(steps)({"pred": MetaTensor(logits)})["pred"]


def labels_of_channels(found: Any, first: int, bundle: str) -> Any:
    """A label map ``(1, i, j, k)`` from a postprocessed output ``(C, i, j, k)``.

    Channels that overlap nowhere make one map: ``first`` for the first of them, and so on. If that
    is 0, the background, it yields to any other channel.

    Raises:
        InputError: two channels claim a voxel, or they are not labels at all.
    """
    found = found if isinstance(found, MetaTensor) else MetaTensor(torch.as_tensor(found))
    channels = found.shape[0]
    if channels == 1:
        return found
    if not bool(((found == 0) | (found == 1)).all()):
        raise InputError(
            f"{bundle}: its postprocessing leaves {channels} channels that are no labels; end it "
            "with AsDiscreted"
        )
    if bool((found[1 - first :].sum(dim=0) > 1).any()):
        raise InputError(
            f"{bundle}: its labels overlap ({channels} channels, each by a threshold), and a mask "
            "has one label a voxel; end its postprocessing with a step that merges the channels"
        )
    numbers = torch.arange(first, channels + first, device=found.device)
    merged = (found * numbers.reshape(-1, *(1,) * (found.dim() - 1))).sum(dim=0, keepdim=True)
    return MetaTensor(merged, affine=found.affine, meta=found.meta)


def _precision(model: Model) -> Any:
    """Half precision where MONAI's evaluator computes in it: on a GPU, with ``amp``."""
    if model.amp and model.device.type == "cuda":
        return torch.autocast("cuda")
    return nullcontext()


def _explained(error: Exception, model: Model, channels: int) -> Exception:
    """The error, or a better one: a missing package, or an image of too few channels."""
    if why := packages.missing(root_cause(error), model.info.metadata):
        return InputError(f"{model.info.name}: {why}")
    if isinstance(error, RuntimeError) and channels < (wanted := model.info.input_channels):
        return InputError(
            f"{model.info.name}: its network takes {wanted} channels, the image has "
            f"{channels}; a bundle that takes several images of a patient at once needs "
            "`python -m monai.bundle run`"
        )
    return error


def _resampled(found: Any, volume: Volume, model: Model) -> Any:
    """The labels on the voxels of the image, if it is ``SaveImaged`` that takes them there."""
    same = tuple(found.shape[1:]) == volume.shape and (
        corner_distance(found.affine, volume.affine, volume.shape) <= _SAME_PLACE_MM
    )
    if same:
        return found
    if not model.saver_resamples:
        sides = " × ".join(map(str, found.shape[1:]))
        raise InputError(
            f"{model.info.name}: its postprocessing leaves the mask on a grid of {sides} voxels, "
            "not that of the image; add Invertd of the preprocessing to it"
        )
    move = SpatialResample(mode="nearest", padding_mode="border", dtype=np.float64)
    return move(found, dst_affine=torch.as_tensor(volume.affine), spatial_size=volume.shape)


def without_savers(postprocessing: Compose) -> tuple[Compose, bool]:
    """A postprocessing without the steps that write files, and whether these resample."""
    steps: list[Transform] = []
    resample = False
    for step in postprocessing.transforms:
        if isinstance(step, Compose):
            inner, more = without_savers(step)
            steps.append(inner)
            resample |= more
        elif isinstance(step, SaveImaged | SaveImage):
            saver: Any = getattr(step, "saver", step)
            resample |= bool(saver.meta_kwargs["resample"])
        else:
            steps.append(step)
    return Compose(steps), resample
