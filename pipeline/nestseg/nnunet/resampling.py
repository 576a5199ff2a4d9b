"""Resampling as nnU-Net does it, number by number.

nnU-Net calls ``skimage.transform.resize`` and ``scipy.ndimage.map_coordinates``, or PyTorch's
``interpolate`` where its plans say so. ``resize`` is ``scipy.ndimage.zoom`` with a clip, which is
what is called here: scikit-image would be a dependency for one line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch.nn import functional as F

ANISOTROPIC: Final = 3.0
"""Ratio of two spacings from which on nnU-Net resamples plane by plane."""

Library = Literal["scipy", "torch", "none"]
Array = npt.NDArray[Any]


class Points(NamedTuple):
    """Where the voxels along a target axis lie between two voxels of the source.

    Attributes:
        low: the voxel before.
        high: the voxel behind; the same where only one counts.
        weights: ``(2, n)``, of both.
        size: voxels along the source axis.
    """

    low: npt.NDArray[np.int64]
    high: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]
    size: int


@dataclass(frozen=True)
class Resampling:
    """One of nnU-Net's resampling functions with its arguments.

    Attributes:
        library: that computes; ``"none"`` leaves an image as it is.
        order: of the spline, 0 to 5; PyTorch's is always linear.
        order_z: of that along the coarse axis, where planes are resampled one by one.
        separate_z: whether they are; ``None`` decides by the spacing.
    """

    library: Library = "scipy"
    order: int = 3
    order_z: int = 0
    separate_z: bool | None = False

    def __post_init__(self) -> None:
        if self.library not in get_args(Library):
            raise ValueError(f"library {self.library!r}: give one of {get_args(Library)}")

    def resize(
        self, data: Array, shape: Sequence[int], current: Sequence[float], new: Sequence[float]
    ) -> Array:
        """Resample an image.

        Args:
            data: ``(C, z, y, x)``.
            shape: spatial shape to give it.
            current: its spacing in mm, per axis.
            new: spacing to give it.

        Returns:
            ``(C, *shape)`` of the same type; the same array if nothing changes.
        """
        if self.library == "none" or tuple(data.shape[1:]) == tuple(shape):
            return data
        axis = self.coarse_axis(current, new)
        if self.library == "torch":
            return _torch_resized(data, tuple(shape), axis)
        out = np.empty((len(data), *shape), data.dtype)
        for channel, values in enumerate(data):  # one at a time: float64 takes the most memory
            out[channel] = self._resized(values.astype(np.float64), tuple(shape), axis)
        return out

    def coarse_axis(self, current: Sequence[float], new: Sequence[float]) -> int | None:
        """The axis whose planes are resampled one by one; ``None`` if all axes go together."""
        spacing: Sequence[float] | None = None
        if self.separate_z is None:
            coarse = (s for s in (current, new) if max(s) / min(s) > ANISOTROPIC)
            spacing = next(coarse, None)
        elif self.separate_z:
            spacing = current
        if spacing is None:
            return None
        coarsest = [axis for axis, mm in enumerate(spacing) if max(spacing) / mm == 1]
        return coarsest[0] if len(coarsest) == 1 else None

    def points(
        self, source: Sequence[int], target: Sequence[int], axis: int | None
    ) -> tuple[Points, ...]:
        """The linear resampling of a grid, axis by axis; see :meth:`coarse_axis` for ``axis``.

        Raises:
            ValueError: it is not linear.
        """
        if self.library == "none":
            source = target
        if self.library == "scipy" and self.order > 1 and tuple(source) != tuple(target):
            raise ValueError(f"resampling of order {self.order} is not linear")
        orders = [self.order_z if k == axis else self.order for k in range(len(target))]
        return tuple(
            _points(n, m, linear=order > 0, library=self.library)
            for n, m, order in zip(source, target, orders, strict=True)
        )

    def resize_labels(
        self, labels: Array, shape: Sequence[int], current: Sequence[float], new: Sequence[float]
    ) -> Array:
        """Resample a label map ``(z, y, x)``, label by label; arguments as of :meth:`resize`."""
        if self.library == "none" or tuple(labels.shape) == tuple(shape):
            return labels
        axis = self.coarse_axis(current, new)
        if axis is None:
            return _resize_labels(labels, tuple(shape), self.order)
        planes = np.moveaxis(labels, axis, 0)
        inner = (*shape[:axis], *shape[axis + 1 :])
        found = np.stack([_resize_labels(plane, inner, self.order) for plane in planes])
        places = _along(len(planes), shape[axis])
        return np.moveaxis(found[_nearest(places, len(planes))], 0, axis)

    def _resized(self, values: Array, shape: tuple[int, ...], axis: int | None) -> Array:
        if axis is None:
            return _resize(values, shape, self.order)
        planes = np.moveaxis(values, axis, 0)
        inner = shape[:axis] + shape[axis + 1 :]
        found = np.stack([_resize(plane, inner, self.order) for plane in planes])
        if len(planes) != shape[axis]:
            places = _along(len(planes), shape[axis])
            if self.order_z == 0:
                found = found[_nearest(places, len(planes))]
            else:
                grid = np.meshgrid(places, *map(np.arange, inner), indexing="ij")
                found = ndimage.map_coordinates(found, grid, order=self.order_z, mode="nearest")
        return np.moveaxis(found, 0, axis)


def new_shape(
    shape: Sequence[int], current: Sequence[float], new: Sequence[float]
) -> tuple[int, ...]:
    """Voxels along each axis at another spacing in mm."""
    return tuple(round(a / b * n) for n, a, b in zip(shape, current, new, strict=True))


def _resize(values: Array, shape: tuple[int, ...], order: int) -> Array:
    """``skimage.transform.resize`` with ``mode="edge"`` and without smoothing, in float64."""
    factors = np.divide(values.shape, shape)
    out: Array = ndimage.zoom(
        values, [1 / f for f in factors], order=order, mode="nearest", grid_mode=True
    )
    if order:
        np.clip(out, values.min(), values.max(), out=out)
    return out


def _resize_labels(labels: Array, shape: tuple[int, ...], order: int) -> Array:
    """The label that weighs most at each voxel; where several do, the nearest if it is one of them.

    As batchgenerators resizes labels from 0.25.5 on; before, the last label that weighed half.
    """
    near = _resize(labels.astype(np.float64), shape, 0).astype(labels.dtype)
    if order == 0:
        return near
    found, most = np.zeros(shape, labels.dtype), np.zeros(shape)
    of_nearest = np.zeros(shape)
    for label in np.unique(labels):
        weight = _resize((labels == label).astype(np.float64), shape, order)
        found[weight > most] = label
        of_nearest[near == label] = weight[near == label]
        np.maximum(most, weight, out=most)
    return np.where(of_nearest == most, near, found)


def _along(source: int, target: int, scale: float | None = None) -> Array:
    """Places of the target's voxels along a source axis."""
    return (np.arange(target) + 0.5) * (source / target if scale is None else scale) - 0.5


def _nearest(places: Array, size: int) -> Array:
    return np.floor(places.clip(0, size - 1) + 0.5).astype(np.int64)


def _points(source: int, target: int, *, linear: bool, library: Library) -> Points:
    scale = float(np.float32(source) / np.float32(target)) if library == "torch" else None
    places = _along(source, target, scale)
    last = source - 1
    if not linear:
        kind = np.float32 if library == "torch" else np.float64
        near = np.floor((places.clip(0, last) + 0.5).astype(kind)).astype(np.int64).clip(0, last)
        return Points(near, near, np.stack([np.ones(target), np.zeros(target)]), source)
    if library == "torch":
        places = places.astype(np.float32).clip(0, last)  # rounded once: a fused operation
    low = np.floor(places).astype(np.int64)  # SciPy weighs what lies beyond an edge, too
    first = 1 - (places - low)
    high = np.where(first == 1, low, low + 1)
    weights = np.stack([first, 1 - first]).astype(np.float64)
    return Points(low.clip(0, last), high.clip(0, last), weights, source)


def _torch_resized(data: Array, shape: tuple[int, ...], axis: int | None) -> Array:
    image = torch.from_numpy(np.ascontiguousarray(data))
    with torch.no_grad():
        if axis is None:
            return F.interpolate(image[None].float(), shape, mode="trilinear")[0].numpy()
        planes = image.movedim(1 + axis, 1)
        inner = shape[:axis] + shape[axis + 1 :]
        if tuple(planes.shape[2:]) != inner:
            flat = planes.reshape(1, -1, *planes.shape[2:]).float()
            found = F.interpolate(flat, inner, mode="bilinear")
            planes = found.reshape(*planes.shape[:2], *inner)
        image = planes.movedim(1, 1 + axis)
        if tuple(image.shape[1:]) != shape:
            image = F.interpolate(image[None].float(), shape, mode="nearest-exact")[0]
        return image.numpy()
