"""Label maps laid on the voxels of an image, whatever grid they were drawn on. Arithmetic only."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nestseg_prep import affine as affines
from nestseg_prep.errors import InputError
from nestseg_prep.volume import Volume

_SAME_PLACE_MM: Final = 1e-3
_OFF_GRID_VOXELS: Final = 0.1


def same_grid(first: Volume, second: Volume) -> bool:
    """Whether two volumes have the same voxels at the same places."""
    return first.shape == second.shape and (
        affines.corner_distance(first.affine, second.affine, first.shape) <= _SAME_PLACE_MM
    )


def labels_on(labels: Volume, image: Volume, *, exact: bool = False) -> Volume:
    """The label of the nearest voxel at each voxel of an image, 0 outside of the label's grid.

    A label that was cropped, flipped or turned keeps every voxel; one with other spacings is
    sampled.

    Args:
        labels: label map on any grid.
        image: whose grid is wanted.
        exact: refuse labels whose voxels are not voxels of the image.

    Returns:
        ``labels`` on the grid of ``image``, of the same type.

    Raises:
        InputError: with ``exact``, a labelled voxel lies between voxels of the image or outside it.
    """
    if same_grid(labels, image):
        return Volume(labels.array, image.affine)
    if exact:
        _check_exact(labels, image)
    to_labels = np.linalg.inv(labels.affine) @ image.affine
    laid = np.zeros(image.shape, labels.array.dtype)
    plane = np.indices(image.shape[:2]).reshape(2, -1)
    for k in range(image.shape[2]):  # plane by plane: places of a whole volume fill the memory
        index = np.vstack([plane, np.full((1, plane.shape[1]), k), np.ones((1, plane.shape[1]))])
        at = np.floor((to_labels @ index)[:3] + 0.5).astype(np.int64)
        inside = ((at >= 0) & (at < np.array(labels.shape)[:, None])).all(axis=0)
        values = np.zeros(plane.shape[1], labels.array.dtype)
        values[inside] = labels.array[tuple(at[:, inside])]
        laid[:, :, k] = values.reshape(image.shape[:2])
    return Volume(laid, image.affine)


def _check_exact(labels: Volume, image: Volume) -> None:
    to_image = np.linalg.inv(image.affine) @ labels.affine
    places: npt.NDArray[Any] = np.argwhere(labels.array)
    at = places @ to_image[:3, :3].T + to_image[:3, 3]
    whole = np.rint(at)
    steps = np.abs(to_image[:3, :3])
    unit = np.allclose(np.sort(steps, axis=0), [[0], [0], [1]], atol=_OFF_GRID_VOXELS)
    fits = unit and np.all(np.abs(at - whole) <= _OFF_GRID_VOXELS)
    inside = np.all((whole >= 0) & (whole < np.array(image.shape)))
    if not fits or not inside:
        msg = "the label lies on another grid than the image; export it in the image's geometry"
        raise InputError(msg)
