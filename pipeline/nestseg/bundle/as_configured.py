"""A bundle run as its config says, whatever its inferer and postprocessing are."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from monai.transforms import Compose, SaveImage, SaveImaged, SpatialResample, Transform

from nestseg.bundle import label_trial, packages, way_back
from nestseg.bundle.building import root_cause
from nestseg.bundle.model import Model
from nestseg_prep.affine import corner_distance
from nestseg_prep.errors import InputError
from nestseg_prep.volume import Volume

_SAME_PLACE_MM: Final = 1e-3

Array = npt.NDArray[Any]


def masks(model: Model, volume: Volume) -> tuple[Array, ...]:
    """The labels that a bundle's own inferer and postprocessing give an image.

    Args:
        model: of the bundle.
        volume: the image.

    Returns:
        ``(i, j, k)`` on the voxels of the image, uint8 or uint16: one array with all labels, or
        where they may overlap, one for each, in their order.

    Raises:
        InputError: the image does not suit the network, a package is missing, or what comes out
            are not labels.
        RuntimeError: it lies on another grid than the image.
    """
    data, image = model.preprocessed(volume)
    try:
        with torch.no_grad(), _precision(model):
            found = model.inferer(image[None].to(model.device), model.network_at(None))
    except Exception as error:
        raise _explained(error, model, image.shape[0]) from error
    labels = model.postprocessing({**data, "pred": found[0]})["pred"]
    info = model.info
    apart = label_trial.separate if info.overlap else label_trial.merged
    labels = _resampled(apart(labels, model.meaning.first, info.name), volume, model)
    kind = np.uint8 if max(info.labels, default=0) < 256 else np.uint16
    arrays = [way_back.on_source_grid(one[None], volume, kind) for one in labels]
    if info.overlap:
        arrays = [array * kind(value) for array, value in zip(arrays, info.labels, strict=True)]
    info.check_named(arrays)
    return tuple(arrays)


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
