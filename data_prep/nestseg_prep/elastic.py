"""Elastic deformation by random displacements on a coarse control grid.

Ronneberger et al. 2015, section 3.1: "random displacement vectors on a coarse 3 by 3 grid", from a
Gaussian of 10 pixels, interpolated bicubically. MONAI's ``Rand2DElastic`` interpolates the
coordinates instead of the displacements, with a kernel that bends straight lines: with so coarse
a grid it moves an image by up to a dozen pixels at magnitude 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.interpolate import CubicSpline

Field = npt.NDArray[np.float64]

POINTS = 3
"""Control points per axis: at both ends of the image and in its middle."""


def draw_control(
    random: np.random.RandomState, sigma: float | Sequence[float], spatial_dims: int
) -> Field:
    """Random displacements of the control points.

    Args:
        random: MONAI's source of randomness.
        sigma: standard deviation in voxels; of each axis, or of all.
        spatial_dims: 2 or 3.

    Returns:
        ``(spatial_dims, 3, …, 3)``: a vector in voxels for each point.
    """
    control = random.normal(size=(spatial_dims, *(POINTS,) * spatial_dims))
    scale = np.broadcast_to(np.asarray(sigma, dtype=np.float64), (spatial_dims,))
    return control * scale.reshape(-1, *(1,) * spatial_dims)


def displacement_field(control: Field, shape: Sequence[int]) -> Field:
    """The control points' displacements at every voxel, by cubic splines along each axis.

    Natural splines through the points: equal vectors give a shift, linear ones a linear map.

    Args:
        control: from :func:`draw_control`.
        shape: of the image, in voxels per axis.

    Returns:
        ``(spatial_dims, *shape)``, in voxels.
    """
    spline = CubicSpline(np.arange(POINTS), np.eye(POINTS), bc_type="natural")
    field = control
    for axis, size in enumerate(shape, start=1):
        places = np.linspace(0, POINTS - 1, size) if size > 1 else np.array([(POINTS - 1) / 2])
        field = np.moveaxis(np.tensordot(spline(places), field, (1, axis)), 0, axis)
    return field


def deform(
    array: npt.NDArray[np.generic], field: Field, *, nearest: bool = False
) -> npt.NDArray[Any]:
    """Read each voxel of the result where its displacement points to; mirrored beyond the border.

    Args:
        array: ``(C, *spatial)``.
        field: ``(spatial_dims, *spatial)``, in voxels.
        nearest: take the nearest voxel, as labels need, instead of interpolating linearly.

    Returns:
        Of the shape and dtype of ``array``.
    """
    places = field + np.indices(field.shape[1:])
    out = np.empty_like(array)
    for channel, target in zip(array, out, strict=True):
        ndimage.map_coordinates(channel, places, target, order=0 if nearest else 1, mode="mirror")
    return out
