"""Three planes of an image with the outlines of its mask: what previews and thumbnails draw."""

from __future__ import annotations

from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from nestseg_prep.volume import Volume

COLOURS = ((255, 92, 51), (51, 187, 255), (120, 230, 90), (250, 210, 60), (210, 120, 250))
"""Colours of labels, by the label's place in the list; they repeat."""

_PLANES = ((0, "sagittal"), (1, "coronal"), (2, "axial"))
_WINDOW = (1, 99)  # percentiles
_SAMPLED = 2_000_000  # voxels are enough for percentiles
_WIDEST = 3.0  # times its height: more than a plane of one slice would be a line

_orientations: Any = nib.orientations  # nibabel annotates only part of itself


class Plane(NamedTuple):
    """One plane, drawn.

    Attributes:
        name: ``"sagittal"``, ``"coronal"`` or ``"axial"``.
        picture: grey with coloured outlines.
    """

    name: str
    picture: Image.Image


def draw_planes(
    image: Volume, mask: Volume, labels: dict[int, str], height: int, line: int = 2
) -> list[Plane]:
    """Draw the planes through a mask in radiological convention.

    Each is the slice with most mask on it (the middle one if the mask is empty), at true
    proportions, with anterior or superior up and the patient's right on the left. Planes that have
    the thickness of one voxel are left out: a picture has one plane.

    Args:
        image: true values; grey runs over :func:`window`.
        mask: label map on the grid of ``image``.
        labels: value → name; their order gives the colours.
        height: of a plane in pixels.
        line: width of an outline in pixels.
    """
    grey, spacing = _canonical(image)
    flat, _ = _canonical(mask)
    low, high = window(image)
    fullest = _fullest(flat)
    planes = []
    for axis, name in _PLANES:
        if 1 in (size for a, size in enumerate(grey.shape) if a != axis) and grey.size > 1:
            continue
        at = (slice(None),) * axis + (fullest[axis],)  # `take` would copy the whole volume
        pixel = [s for a, s in enumerate(spacing) if a != axis]
        scaled = (grey[at].astype(np.float32) - low) / max(high - low, 1e-6)
        shades = np.asarray(np.clip(scaled, 0, 1) * 255, dtype=np.uint8)
        regions = flat[at].astype(np.int32)
        size = _size(shades.shape, pixel, height)
        rgb = np.stack([_upright(shades, size, Image.Resampling.BICUBIC)] * 3, axis=-1)
        _outline(rgb, _upright(regions, size, Image.Resampling.NEAREST), labels, line)
        planes.append(Plane(name, Image.fromarray(rgb.astype(np.uint8))))
    return planes


def window(image: Volume) -> tuple[float, float]:
    """Values that become black and white: the 1st and the 99th percentile."""
    flat: npt.NDArray[Any] = image.array.ravel(order="K")
    low, high = np.percentile(flat[:: -(-flat.size // _SAMPLED)], _WINDOW)
    return float(low), float(high)


def _canonical(volume: Volume) -> tuple[npt.NDArray[Any], tuple[float, ...]]:
    """The array turned to RAS+ axes, without a copy, and its spacing along them."""
    turn = _orientations.io_orientation(volume.affine)
    array = _orientations.apply_orientation(volume.array, turn)
    order = np.argsort(turn[:, 0])
    return array, tuple(volume.spacing[int(k)] for k in order)


def _fullest(mask: npt.NDArray[Any]) -> list[int]:
    """Along each axis the plane with most mask; the middle one if there is none."""
    slowest = int(np.argmax(np.abs(mask.strides)))  # slices along it lie together in memory
    slices = np.moveaxis(mask, slowest, 0)
    areas = np.zeros(len(slices), np.int64)
    flat = np.zeros(slices.shape[1:], np.int32)
    for k, one in enumerate(slices):
        inside = one != 0
        areas[k] = np.count_nonzero(inside)
        flat += inside
    if not areas.any():
        return [size // 2 for size in mask.shape]
    fullest = [int(flat.sum(axis=1).argmax()), int(flat.sum(axis=0).argmax())]
    fullest.insert(slowest, int(areas.argmax()))
    return fullest


def _size(shape: tuple[int, ...], pixel: list[float], height: int) -> tuple[int, int]:
    """Width and height of a drawn plane of ``shape``, at true proportions."""
    ratio = shape[0] * pixel[0] / (shape[1] * pixel[1])
    return max(1, round(height * min(ratio, _WIDEST))), height


def _upright(
    plane: npt.NDArray[Any], size: tuple[int, int], how: Image.Resampling
) -> npt.NDArray[Any]:
    """A RAS+ plane as rows from top to bottom, scaled to ``size``."""
    rows = plane.T[::-1, ::-1]  # up: second axis; left: the patient's right, or anterior
    return np.asarray(Image.fromarray(np.ascontiguousarray(rows)).resize(size, how))


def _outline(
    rgb: npt.NDArray[Any], regions: npt.NDArray[Any], labels: dict[int, str], line: int
) -> None:
    """Draw the inner edge of each region into ``rgb``."""
    for place, value in enumerate(labels):
        region = regions == value
        if region.any():
            edge = region & ~ndimage.binary_erosion(region, iterations=line)
            rgb[edge] = COLOURS[place % len(COLOURS)]
