"""Where training patches are taken, and how they are cut from a mirrored image.

One rule serves every network: the target's patch is what the network puts out for the image's, so a
valid U-Net gets a target smaller than its image, and a window classifier a target of one pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nestseg_prep.geometry import Geometry
from nestseg_prep.padding import Array, mirror_pad, unpad

Places = npt.NDArray[np.intp]


def draw_balanced(
    labels: npt.NDArray[np.generic], number: int, random: np.random.RandomState
) -> Places:
    """Random voxels, as many of each class that occurs, give or take one.

    Ciresan et al. 2012, section 2, train on all membrane pixels and as many others. A class with no
    more voxels than its share gives them all before it repeats one; else they are drawn with
    replacement.

    Args:
        labels: class of each voxel, ``(*spatial)``.
        number: of voxels.
        random: MONAI's source of randomness.

    Returns:
        ``(number, spatial_dims)`` indices, in random order.
    """
    flat = labels.ravel()
    classes = random.permutation(np.unique(flat))
    chosen = []
    for rank, value in enumerate(classes):
        share = (number + len(classes) - 1 - rank) // len(classes)
        members = np.flatnonzero(flat == value)
        rounds, rest = divmod(share, len(members))
        chosen += [members] * rounds
        chosen.append(members[random.randint(len(members), size=rest)])
    voxels = random.permutation(np.concatenate(chosen))
    return np.stack(np.unravel_index(voxels, labels.shape), axis=1)


def grid_starts(shape: Sequence[int], size: Sequence[int]) -> Places:
    """First voxels of patches that lie side by side from the first voxel of an image on.

    Together they hold every voxel of the image once; the last along an axis may reach beyond it.

    Args:
        shape: of the image.
        size: of the patches.

    Returns:
        ``(n, spatial_dims)``, last axis fastest.
    """
    along = [np.arange(0, image, patch) for image, patch in zip(shape, size, strict=True)]
    return np.stack(np.meshgrid(*along, indexing="ij"), axis=-1).reshape(-1, len(along))


def starts_around(centres: Places, size: Sequence[int], shape: Sequence[int]) -> Places:
    """First voxels of patches around centres, moved as little as it takes to lie in the image.

    Args:
        centres: ``(n, spatial_dims)``.
        size: of the patches; along an axis where the image is smaller they are centred on it.
        shape: of the image.

    Returns:
        ``(n, spatial_dims)``; negative where a patch begins before the image.
    """
    patch, image = np.asarray(size), np.asarray(shape)
    inside = np.clip(centres - patch // 2, 0, np.maximum(image - patch, 0))
    starts: Places = np.where(patch > image, -((patch - image) // 2), inside)
    return starts


def cut(array: npt.NDArray[np.generic], starts: Places, size: Sequence[int]) -> npt.NDArray[Any]:
    """Patches of an image that is mirrored beyond its border as far as they reach.

    Args:
        array: ``(C, *spatial)``, any dtype.
        starts: ``(n, spatial_dims)`` first voxels; may lie outside.
        size: of the patches, in voxels per axis.

    Returns:
        ``(n, C, *size)``, a copy.
    """
    shape = np.asarray(array.shape[1:])
    before = np.maximum(-starts.min(axis=0), 0)
    after = np.maximum((starts + size).max(axis=0) - shape, 0)
    padded = mirror_pad(array, [(int(b), int(a)) for b, a in zip(before, after, strict=True)])
    corners = starts + before
    patches = [
        padded[(slice(None), *(slice(a, a + n) for a, n in zip(corner, size, strict=True)))]
        for corner in corners
    ]
    return np.stack(patches)


def crop_to_output(target: Array, geometry: Geometry) -> Array:
    """The part of a target that a network puts out when the image has the target's shape.

    Args:
        target: array or tensor ``(..., *spatial)``.
        geometry: of the network.

    Returns:
        A view; half of the margin is gone on either side.

    Raises:
        ValueError: a shape that does not fit the network.
    """
    geometry.output_size(target.shape[target.ndim - len(geometry.axes) :])
    return unpad(target, [(margin // 2, margin // 2) for margin in geometry.margin])
