"""Where in the patient a crop or a padded image lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from monai.data.meta_tensor import MetaTensor

Image = TypeVar("Image")


def with_first_voxel(part: Image, image: object, first: Sequence[int]) -> Image:
    """Set the affine of a crop (or padding) of an image, so that its voxels keep their place.

    Args:
        part: cut from ``image``; ``(C, *spatial)``.
        image: the whole. Only a MONAI ``MetaTensor`` has an affine; with others nothing is done.
        first: index in ``image`` of the first voxel of ``part``; negative for padding.

    Returns:
        ``part`` itself.
    """
    if isinstance(part, MetaTensor) and isinstance(image, MetaTensor):
        affine = image.affine.clone().to(torch.float64)
        for axis, step in enumerate(first):
            affine[:, -1] += step * affine[:, axis]
        part.affine = affine
    return part
