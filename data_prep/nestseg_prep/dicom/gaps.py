"""Distances between slices → planes of a regular grid, or what stands in the way. Pure."""

from __future__ import annotations

from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from nestseg_prep.dicom.findings import Code, Finding
from nestseg_prep.dicom.planes import Array

_VOXEL_FRACTION: Final = 0.1
# Beyond these a grid at the finest step would be mostly invented.
_WIDEST_TO_FINEST: Final = 16.0
_LONGEST_FILLED: Final = 3
# A protocol that changes its step does so for several slices; a lost slice leaves one wide gap.
_SHORTEST_RUN: Final = 3
_WIDE: Final = 1.5
_SAME_GAP: Final = 0.02
_EQUAL: Final = 1e-6  # mm; what rounding makes of equal distances
# Slices this much off equal distances (in steps) still find a plane of their own.
_JITTER: Final = 0.25


class Steps(NamedTuple):
    """Planes of a regular grid.

    Attributes:
        size: mm between planes.
        planes: how many.
        places: ``(slices,)``, where each slice lies among the planes, in steps.
    """

    size: float
    planes: int
    places: Array


def judge(
    along: Array, thickness: float | None, *, fill_missing: bool = False
) -> tuple[Steps | None, list[Finding]]:
    """Finds the planes on which slices lie, or between which they have to be interpolated.

    Args:
        along: ascending mm along the normal, from 0; no place twice.
        thickness: mm, taken for the distance where there is only one slice.
        fill_missing: interpolate a few missing slices instead of refusing.

    Returns:
        The planes, and the finding that says why they are not simply the slices. No planes where
        the finding refuses.
    """
    count = len(along)
    if count < 3:
        return _unverified(along, thickness)
    step = along[-1] / (count - 1)
    if np.abs(along - step * np.arange(count)).max() <= _VOXEL_FRACTION * step and _is_regular(
        along
    ):
        return Steps(float(step), count, np.arange(count, dtype=np.float64)), []
    gaps = np.diff(along)
    unequal = f"{gaps.min():.3f} to {gaps.max():.3f} mm"
    if _lost_slices(gaps):
        return _missing(along, gaps, fill_missing=fill_missing)
    if gaps.max() > _WIDEST_TO_FINEST * gaps.min():
        return None, [Finding(Code.SCATTERED_SLICES, unequal)]
    return _interpolated(along, float(gaps.min())), [Finding(Code.UNEVEN_SPACING, unequal)]


def _unverified(along: Array, thickness: float | None) -> tuple[Steps | None, list[Finding]]:
    """One or two slices: nothing confirms the distance."""
    count = len(along)
    step = float(along[-1]) if count > 1 else thickness
    if not step or step < 0:
        return None, [Finding(Code.NO_GEOMETRY, "one slice without thickness")]
    return Steps(step, count, np.arange(float(count))), [Finding(Code.FEW_SLICES, f"{count}")]


def _is_regular(along: Array) -> bool:
    gaps = np.diff(along)
    if gaps.min() > _EQUAL and np.ptp(gaps) <= _EQUAL:
        return True
    # Imported here: it costs 0.3 s and 20 MB, and most series need no judge.
    from highdicom.spatial import get_volume_positions  # noqa: PLC0415

    # The judge gets the distances along the normal alone: tilt has a stricter test of ours.
    upright = np.stack([np.zeros_like(along), np.zeros_like(along), along], axis=1)
    spacing, _ = get_volume_positions(upright.tolist(), [1, 0, 0, 0, 1, 0])
    return spacing is not None


def _lost_slices(gaps: Array) -> bool:
    """Whether a gap stands out from the one before or behind it, and too few others share it."""
    changes = np.flatnonzero(np.abs(np.diff(gaps)) > _SAME_GAP * np.maximum(gaps[1:], gaps[:-1]))
    runs = np.split(gaps, changes + 1)
    wide = [
        len(run) < _SHORTEST_RUN and run.max() > _WIDE * _beside(runs, n)
        for n, run in enumerate(runs)
    ]
    return any(wide)


def _beside(runs: list[Array], number: int) -> float:
    """The wider of the gaps that border on a run."""
    beside = [runs[number - 1][-1]] if number else []
    beside += [runs[number + 1][0]] if number + 1 < len(runs) else []
    return float(max(beside, default=np.inf))


def _missing(
    along: Array, gaps: Array, *, fill_missing: bool
) -> tuple[Steps | None, list[Finding]]:
    """Missing slices leave gaps that are multiples of the usual one; other holes are a riddle."""
    usual = float(np.median(gaps[gaps < _WIDE * gaps.min()]))
    multiples = gaps / usual
    whole = np.round(multiples).astype(int)
    if np.abs(multiples - whole).max() > _SAME_GAP * multiples.max():
        return None, [Finding(Code.SCATTERED_SLICES, f"{gaps.min():.3f} to {gaps.max():.3f} mm")]
    count = int(whole.sum()) + 1
    detail = f"{count - len(along)} missing of {count}"
    if not fill_missing or whole.max() > _LONGEST_FILLED + 1:
        return None, [Finding(Code.MISSING_SLICE, detail)]
    places = np.concatenate([[0.0], np.cumsum(whole)])
    return Steps(float(along[-1]) / (count - 1), count, places), [
        Finding(Code.MISSING_SLICE_FILLED, detail)
    ]


def _interpolated(along: Array, finest: float) -> Steps:
    """Planes at the mean distance if slices only jitter about it, otherwise at the finest one."""
    count = len(along)
    places = along / along[-1] * (count - 1)
    if np.abs(places - np.arange(count)).max() >= _JITTER:
        count = int(np.ceil(along[-1] / finest - 1e-6)) + 1
        while not _have_own_planes(places := along / along[-1] * (count - 1)):
            count += 1
    return Steps(float(along[-1]) / (count - 1), count, places)


def _have_own_planes(places: Array) -> bool:
    nearest = np.floor(places + 0.5)
    return all(first < second for first, second in pairwise(nearest))
