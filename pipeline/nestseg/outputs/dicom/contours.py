"""A mask of one slice → closed outlines, and outlines → a mask. Arithmetic only.

Marching squares on a mask of zeros and ones put every vertex halfway between the centres of two
neighbouring pixels, one inside and one outside. A reader that fills by the centres of pixels
therefore gets the mask back exactly. The area within is smaller than that of the pixels by half a
pixel for each piece, and larger by as much for each hole, since corners are cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from contourpy import FillType, contour_generator
from PIL import Image, ImageDraw

Points: TypeAlias = npt.NDArray[np.float64]
"""``(points, 2)`` column and row of each vertex; centres of pixels are whole numbers."""
Plane: TypeAlias = npt.NDArray[np.bool_]

_SCALE: Final = 4  # drawn pixels for each pixel: vertices lie at least 1.4 of them from a centre


def outlines(plane: Plane) -> Iterator[Points]:
    """Outline each piece of a mask once, without repeating the first point.

    Holes are joined to their piece by keyholes, so that pieces never overlap: filling them one by
    one, by even-odd or by XOR gives the same mask. Pieces that touch at a corner are separate.

    Args:
        plane: ``(rows, columns)`` of a slice.
    """
    rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
    if not rows.size:
        return
    found = plane[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    # Zeros around it close the outlines of what touches the border.
    generator: Any = contour_generator(
        z=np.pad(found, 1).astype(np.float64), fill_type=FillType.OuterOffset
    )
    corner = np.array([columns[0] - 1, rows[0] - 1])
    for points, offsets in zip(*generator.filled(0.5, 2.0), strict=True):
        # contourpy closes each loop by repeating its first point.
        piece, *holes = [points[start : end - 1] + corner for start, end in pairwise(offsets)]
        yield _without_straight_points(_joined(piece, holes))


def fill(points: Points, shape: tuple[int, int]) -> Plane:
    """Fill a closed outline: the pixels whose centres lie inside (by Pillow).

    Args:
        points: its vertices; what lies outside of the slice is left out.
        shape: ``(rows, columns)`` of the slice.
    """
    first = np.clip(np.floor(points.min(axis=0)).astype(int), 0, None)
    last = np.minimum(np.ceil(points.max(axis=0)).astype(int), [shape[1] - 1, shape[0] - 1])
    plane = np.zeros(shape, np.bool_)
    if (first > last).any():
        return plane
    width, height = (int(side) for side in (last - first) * _SCALE + 1)
    image = Image.new("L", (width, height))
    # Pillow fills wrongly between vertices that are not whole numbers.
    corners = np.rint((points - first) * _SCALE).astype(int)
    ImageDraw.Draw(image).polygon(corners.ravel().tolist(), fill=1)
    inside = np.asarray(image)[::_SCALE, ::_SCALE] != 0
    plane[first[1] : last[1] + 1, first[0] : last[0] + 1] = inside
    return plane


def area(points: Points) -> float:
    """Area within a closed outline, in pixels."""
    following = np.roll(points, -1, axis=0)
    doubled = points[:, 0] * following[:, 1] - points[:, 1] * following[:, 0]
    return abs(float(doubled.sum())) / 2


def _joined(outline: Points, holes: Sequence[Points]) -> Points:
    """One closed outline: a cut along a row of pixels leads to each hole and back.

    From the leftmost vertex of a hole the cut runs left to the nearest vertex on the same row. All
    pixels between belong to the piece, and a hole that ends there was joined before.
    """
    starts = []
    for hole in holes:
        on_row = np.flatnonzero(hole[:, 1] % 1 == 0)
        starts.append(on_row[hole[on_row, 0].argmin()])
    for hole, start in sorted(zip(holes, starts, strict=True), key=lambda one: one[0][one[1], 0]):
        column, row = hole[start]
        left = np.flatnonzero((outline[:, 1] == row) & (outline[:, 0] < column))
        at = left[outline[left, 0].argmax()]
        outline = np.concatenate([outline[: at + 1], hole[start:], hole[: start + 1], outline[at:]])
    return outline


def _without_straight_points(outline: Points) -> Points:
    """Leave out vertices at which the outline does not turn."""
    before = outline - np.roll(outline, 1, axis=0)
    after = np.roll(outline, -1, axis=0) - outline
    corners: Points = outline[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
    return corners
