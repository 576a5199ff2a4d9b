"""Slices → a volume's geometry, or what stands in the way. Pure functions over header records.

The judge of regularity is ``highdicom.spatial.get_volume_positions``; on top of it no slice of a
regular series may lie further than a tenth of a voxel from where its header says. Directions that
were rounded are made orthonormal. Slices that are sheared or unevenly spaced get an orthogonal
grid of their own pixel size, with the place of every slice in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from nestseg_prep import affine as affines
from nestseg_prep.dicom import gaps, planes
from nestseg_prep.dicom.findings import Code, Finding
from nestseg_prep.dicom.headers import Slice
from nestseg_prep.dicom.planes import Array, Directions
from nestseg_prep.dicom.rules import SAFE, Rules

_VOXEL_FRACTION: Final = 0.1
# Slices that stray further than this from a line were not stacked on purpose.
_STRAYING_PIXELS: Final = 1.0


@dataclass(frozen=True)
class Stack:
    """Slices with the grid of their volume.

    Attributes:
        slices: ascending along ``cross(row direction, column direction)``.
        affine: ``(4, 4)``, voxel → RAS mm, orthogonal. Axis i runs along a row of the image, j
            along a column from its last row to its first, k along the ascending slices: the
            storage order of dcm2niix.
        shape: voxels along ``(i, j, k)``.
        first_pixels: ``(slices, 3)``, see ``source.SourceGrid``.
        findings: why the grid is not that of the slices themselves, where it is not.
    """

    slices: tuple[Slice, ...]
    affine: Array
    shape: tuple[int, int, int]
    first_pixels: Array
    findings: tuple[Finding, ...] = ()


def stack(slices: Sequence[Slice], rules: Rules = SAFE) -> Stack | list[Finding]:
    """Orders slices along their normal and derives the grid of their volume.

    Args:
        slices: passed ``check_planes``; one size, orientation and spacing; no place twice.
        rules: what is refused.

    Returns:
        The stack, or the findings that refuse it.
    """
    if len(slices) < rules.min_slices:
        return [Finding(Code.TOO_FEW_SLICES, f"{len(slices)}")]
    axes = planes.directions(slices)
    positions = planes.positions(slices)
    order = np.argsort(positions @ axes.normal)
    ordered = tuple(slices[index] for index in order)
    positions = positions[order]
    along = (positions - positions[0]) @ axes.normal
    shifts = _in_plane_shifts(positions, axes, ordered[0])

    tilt, stray = _judge_shifts(shifts, along, ordered[0])
    thickness = ordered[0].frame.thickness
    steps, notes = gaps.judge(along, thickness, fill_missing=rules.fill_missing)
    findings = [*tilt, *stray, *notes]
    if steps is None or any(finding.refuses for finding in findings):
        return [finding for finding in findings if finding.refuses] or findings
    if not tilt and not stray:
        shifts = np.zeros_like(shifts)
    return _on_grid(ordered, positions[0], axes, shifts, steps, tuple(findings))


def _in_plane_shifts(positions: Array, axes: Directions, first: Slice) -> Array:
    """How far each slice lies from the first along ``(i, j)``, in pixels, ``(slices, 2)``."""
    between_rows, between_columns = first.frame.spacing or (1.0, 1.0)
    sideways = positions - positions[0]
    return np.stack(
        [sideways @ axes.row / between_columns, -(sideways @ axes.column) / between_rows], axis=1
    )


def _judge_shifts(shifts: Array, along: Array, first: Slice) -> tuple[list[Finding], list[Finding]]:
    """What is wrong sideways: slices in a slanting line, and slices that leave their line."""
    if np.linalg.norm(shifts, axis=1).max() <= _VOXEL_FRACTION:
        return [], []
    slope = shifts[-1] / along[-1]
    strays = float(np.linalg.norm(shifts - np.outer(along, slope), axis=1).max())
    between_rows, between_columns = first.frame.spacing or (1.0, 1.0)
    if strays > _STRAYING_PIXELS:
        millimetres = np.linalg.norm(shifts * [between_columns, between_rows], axis=1).max()
        return [], [Finding(Code.SCATTERED_SLICES, f"shifted sideways by {millimetres:.1f} mm")]
    tangent = np.linalg.norm(slope * [between_columns, between_rows])
    slanting = np.linalg.norm(shifts[-1]) > max(_VOXEL_FRACTION, 2 * strays)
    tilt = [Finding(Code.GANTRY_TILT, f"{np.degrees(np.arctan(tangent)):.1f} degrees")]
    uneven = [Finding(Code.UNEVEN_SPACING, f"{strays:.2f} pixels sideways")]
    return tilt if slanting else [], uneven if strays > _VOXEL_FRACTION or not slanting else []


def _on_grid(
    slices: tuple[Slice, ...],
    origin: Array,
    axes: Directions,
    shifts: Array,
    steps: gaps.Steps,
    findings: tuple[Finding, ...],
) -> Stack:
    """The orthogonal grid, of the slices' pixel size, that holds all of their pixels."""
    header, frame = slices[0]
    between_rows, between_columns = frame.spacing or (1.0, 1.0)
    shifts = shifts - shifts.min(axis=0)
    extra = np.ceil(shifts.max(axis=0)).astype(int)
    shape = (header.columns + int(extra[0]), header.rows + int(extra[1]), steps.planes)
    places = np.column_stack([shifts[:, 0], shifts[:, 1] + header.rows - 1, steps.places])
    lps = np.eye(4)
    lps[:3, 0] = axes.row * between_columns
    lps[:3, 1] = -axes.column * between_rows
    lps[:3, 2] = axes.normal * steps.size
    lps[:3, 3] = origin - lps[:3, :3] @ places[0]
    return Stack(slices, affines.swap_lps_ras(lps), shape, places, findings)
