"""Where single slices lie: their directions and their places along the normal. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from nestseg_prep.dicom.findings import Code, Finding
from nestseg_prep.dicom.headers import Slice

# Two images closer than this along the normal lie at one position.
SAME_POSITION_MM: Final = 0.01
# ImageOrientationPatient rounded to three digits is off by up to 2e-3.
_ORTHOGONAL_TOLERANCE: Final = 2e-3
_UNIT_TOLERANCE: Final = 1e-2

Array: TypeAlias = npt.NDArray[np.float64]


class Directions(NamedTuple):
    """Unit vectors at right angles to each other, LPS."""

    row: Array
    column: Array
    normal: Array


def check_planes(slices: Sequence[Slice]) -> Finding | None:
    """Whether each slice says by itself where it lies."""
    incomplete = sum(
        plane.position is None
        or plane.orientation is None
        or plane.spacing is None
        or min(plane.spacing) <= 0
        for _, plane in slices
    )
    if incomplete:
        return Finding(Code.NO_GEOMETRY, f"{incomplete} of {len(slices)} images")
    crooked = ~_are_orthonormal(_cosines(slices))
    if crooked.any():
        return Finding(Code.BAD_ORIENTATION, f"{np.sum(crooked)} of {len(slices)} images")
    return None


def directions(slices: Sequence[Slice]) -> Directions:
    """Row, column and normal direction of slices that share one orientation.

    Both given directions give way by half of what they lack to a right angle.
    """
    left, _, right = np.linalg.svd(np.mean(_cosines(slices), axis=0), full_matrices=False)
    row, column = left @ right
    return Directions(row, column, np.cross(row, column))


def positions(slices: Sequence[Slice]) -> Array:
    """LPS mm of the first pixel of each slice, ``(slices, 3)``."""
    return np.array([plane.position for _, plane in slices], dtype=np.float64)


def place_numbers(slices: Sequence[Slice]) -> list[int]:
    """Numbers the positions along the normal: slices at one place share a number.

    The slices passed ``check_planes`` and share one orientation.
    """
    distances = positions(slices) @ directions(slices).normal
    order = np.argsort(distances, kind="stable")
    steps = np.diff(distances[order], prepend=distances[order[0]]) > SAME_POSITION_MM
    numbers = np.empty(len(slices), dtype=int)
    numbers[order] = np.cumsum(steps)
    return [int(number) for number in numbers]


def _cosines(slices: Sequence[Slice]) -> Array:
    """Row and column direction of each slice, ``(slices, 2, 3)`` LPS."""
    cosines = np.array([plane.orientation for _, plane in slices], dtype=np.float64)
    return cosines.reshape(-1, 2, 3)


def _are_orthonormal(cosines: Array) -> npt.NDArray[np.bool_]:
    lengths = np.linalg.norm(cosines, axis=2)
    dots = np.sum(cosines[:, 0] * cosines[:, 1], axis=1)
    unit = np.abs(lengths - 1).max(axis=1) < _UNIT_TOLERANCE
    return np.asarray(unit & (np.abs(dots) < _ORTHOGONAL_TOLERANCE))
