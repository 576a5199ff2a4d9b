"""Slices → a volume's geometry, or what stands in the way. Pure functions over header records.

The judge of regularity is ``highdicom.spatial.get_volume_positions``; on top of it no slice of an
accepted series may lie further than a tenth of a voxel from where its header says. Directions that
were rounded are made orthonormal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from nestseg_prep import affine as affines
from nestseg_prep.dicom.findings import Code, Finding
from nestseg_prep.dicom.headers import Slice

MIN_SLICES: Final = 3
# Two images closer than this along the normal lie at one position.
SAME_POSITION_MM: Final = 0.01
# ImageOrientationPatient rounded to three digits is off by up to 2e-3.
_ORTHOGONAL_TOLERANCE: Final = 2e-3
_UNIT_TOLERANCE: Final = 1e-2
_VOXEL_FRACTION: Final = 0.1

Array: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Stack:
    """A regular stack of slices.

    Attributes:
        slices: ascending along ``cross(row direction, column direction)``.
        affine: ``(4, 4)``, voxel → RAS mm, orthogonal. Axis i runs along a row of the image, j
            along a column from its last row to its first, k along the ascending slices: the
            storage order of dcm2niix.
    """

    slices: tuple[Slice, ...]
    affine: Array

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along ``(i, j, k)``."""
        header = self.slices[0].header
        return header.columns, header.rows, len(self.slices)


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
    crooked = sum(not _is_orthonormal(_cosines(one)) for one in slices)
    if crooked:
        return Finding(Code.BAD_ORIENTATION, f"{crooked} of {len(slices)} images")
    return None


def place_numbers(slices: Sequence[Slice]) -> list[int]:
    """Numbers the positions along the normal: slices at one place share a number.

    The slices passed ``check_planes`` and share one orientation.
    """
    distances = _positions(slices) @ _frame_of(slices)[2]
    order = np.argsort(distances, kind="stable")
    steps = np.diff(distances[order], prepend=distances[order[0]]) > SAME_POSITION_MM
    numbers = np.empty(len(slices), dtype=int)
    numbers[order] = np.cumsum(steps)
    return [int(number) for number in numbers]


def stack(slices: Sequence[Slice]) -> Stack | list[Finding]:
    """Orders slices along their normal and derives the affine of their volume.

    Args:
        slices: passed ``check_planes``; one size, orientation and spacing; no place twice.

    Returns:
        The stack, or the findings that refuse it.
    """
    if len(slices) < MIN_SLICES:
        return [Finding(Code.TOO_FEW_SLICES, f"{len(slices)}")]
    row, column, normal = _frame_of(slices)
    positions = _positions(slices)
    order = np.argsort(positions @ normal)
    positions = positions[order]
    along = positions @ normal
    step = (along[-1] - along[0]) / (len(along) - 1)
    between_rows, between_columns = slices[0].frame.spacing or (0.0, 0.0)

    sideways = positions - positions[0]
    sideways -= np.outer(sideways @ normal, normal)
    drift = float(np.linalg.norm(sideways, axis=1).max())
    unevenness = float(np.abs(along - along[0] - step * np.arange(len(along))).max())
    findings = []
    pixel = min(between_rows, between_columns)
    if drift > _VOXEL_FRACTION * pixel:
        findings.append(_sideways(sideways, along - along[0], pixel))
    if not _is_regular(along) or unevenness > _VOXEL_FRACTION * step:
        findings.append(_gaps(along))
    if findings:
        return findings

    lps = np.eye(4)
    lps[:3, 0] = row * between_columns
    lps[:3, 1] = -column * between_rows
    lps[:3, 2] = normal * step
    lps[:3, 3] = positions[0] + column * between_rows * (slices[0].header.rows - 1)
    return Stack(tuple(slices[index] for index in order), affines.swap_lps_ras(lps))


def _cosines(one: Slice) -> Array:
    """Row and column direction, ``(2, 3)`` LPS."""
    return np.asarray(one.frame.orientation, dtype=np.float64).reshape(2, 3)


def _positions(slices: Sequence[Slice]) -> Array:
    return np.array([plane.position for _, plane in slices], dtype=np.float64)


def _is_orthonormal(cosines: Array) -> bool:
    lengths = np.linalg.norm(cosines, axis=1)
    return bool(
        np.abs(lengths - 1).max() < _UNIT_TOLERANCE
        and abs(cosines[0] @ cosines[1]) < _ORTHOGONAL_TOLERANCE
    )


def _frame_of(slices: Sequence[Slice]) -> tuple[Array, Array, Array]:
    """Row, column and normal direction, exactly orthonormal.

    Both given directions give way by half of what they lack to a right angle.
    """
    cosines = np.mean([_cosines(one) for one in slices], axis=0)
    left, _, right = np.linalg.svd(cosines, full_matrices=False)
    row, column = left @ right
    return row, column, np.cross(row, column)


def _is_regular(along: Array) -> bool:
    # Imported here: it costs 0.3 s, and a scan that meets no stack has no need of it.
    from highdicom.spatial import get_volume_positions  # noqa: PLC0415

    # The judge gets the distances along the normal alone: tilt has a stricter test of ours.
    upright = np.stack([np.zeros_like(along), np.zeros_like(along), along], axis=1)
    spacing, _ = get_volume_positions(upright.tolist(), [1, 0, 0, 0, 1, 0])
    return spacing is not None


def _sideways(sideways: Array, along: Array, pixel: float) -> Finding:
    """Slices of a tilted gantry move sideways in proportion to their distance; others jump."""
    slope = sideways[-1] / along[-1]
    if np.linalg.norm(sideways - np.outer(along, slope), axis=1).max() < pixel:
        degrees = np.degrees(np.arctan(np.linalg.norm(slope)))
        return Finding(Code.GANTRY_TILT, f"{degrees:.1f} degrees")
    jump = np.linalg.norm(sideways, axis=1).max()
    return Finding(Code.UNEVEN_SPACING, f"shifted sideways by up to {jump:.1f} mm")


def _gaps(along: Array) -> Finding:
    """Missing slices leave gaps that are multiples of the usual one; anything else is uneven."""
    gaps = np.diff(along)
    usual = float(np.median(gaps[gaps < 1.5 * gaps.min()]))
    multiples = gaps / usual
    if np.abs(multiples - np.round(multiples)).max() < 0.02 * multiples.max():
        missing = int(np.round(multiples).sum()) - len(gaps)
        if missing:
            return Finding(Code.MISSING_SLICE, f"{missing} missing of {len(along) + missing}")
    return Finding(Code.UNEVEN_SPACING, f"{gaps.min():.3f} to {gaps.max():.3f} mm")
