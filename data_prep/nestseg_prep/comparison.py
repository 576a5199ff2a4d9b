"""A volume that was read against the slices as they really are. Shares nothing with the reader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from nestseg_prep.phantom.truth import Group, TrueSlice, Truth
from nestseg_prep.volume import Volume, to_source_slices

Array: TypeAlias = npt.NDArray[Any]

TOLERANCE_MM: Final = 0.05


def find_truth(volume: Volume, truths: Sequence[Truth]) -> Truth | None:
    """What a volume that was read should be: slices by their names, a single file by its values."""
    if volume.source is not None:
        return _find_group(volume, [one for one in truths if not isinstance(one, Volume)])
    files = (one for one in truths if isinstance(one, Volume))
    return next((one for one in files if np.array_equal(one.array, volume.array)), None)


def _find_group(volume: Volume, groups: Sequence[Group]) -> Group | None:
    """The true volume whose slices, one for each place, are those of a volume that was read."""
    names = {(one.sop_uid, one.frame) for one in volume.source.slices} if volume.source else set()
    for group in groups:
        places = {tuple(np.round(one.first, 3)) for one in group.values()}
        covered = {tuple(np.round(group[name].first, 3)) for name in names if name in group}
        if names <= set(group) and covered == places and len(names) == len(places):
            return group
    return None


def _slices(volume: Volume, group: Group) -> list[TrueSlice]:
    if volume.source is None:
        return []
    return [group[one.sop_uid, one.frame] for one in volume.source.slices]


def misplacement(volume: Volume, truth: Truth) -> float:
    """How far in mm a stored pixel lies from where the volume puts it, at most."""
    if isinstance(truth, Volume):
        corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(truth.shape) - 1)
        off = volume.affine - truth.affine
        return float(np.linalg.norm(corners @ off[:3, :3].T + off[:3, 3], axis=1).max())
    if volume.source is None:
        return np.inf
    worst = 0.0
    for first, true in zip(volume.source.first_pixels, _slices(volume, truth), strict=True):
        rows, columns = np.indices(true.values.shape)
        index = first + np.stack([columns, -rows, np.zeros_like(rows)], axis=-1)
        places = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
        worst = max(worst, float(np.linalg.norm(places - true.places, axis=-1).max()))
    return worst


def difference(volume: Volume, stored: Array, group: Group) -> str:
    """What is wrong with the values of a volume; ``""`` where nothing is.

    Args:
        volume: as it was read.
        stored: ``(columns, rows, slices)``, the values of its slices before interpolation.
        group: its slices as they are.
    """
    slices = _slices(volume, group)
    for k, true in enumerate(slices):
        if not np.allclose(stored[:, ::-1, k].T, true.values, rtol=1e-6):
            return f"wrong values in slice {k + 1}"
    if volume.sop_uids:
        taken = to_source_slices(volume.array, volume)
        same = all(np.allclose(a, b.values, rtol=1e-6) for a, b in zip(taken, slices, strict=True))
        return "" if same else "values on wrong voxels"
    return _interpolation(volume, slices) or _way_back(volume, slices)


def _interpolation(volume: Volume, slices: Sequence[TrueSlice]) -> str:
    """Whether a voxel between slices has the value between theirs, found from its place alone."""
    unit_row, unit_column = slices[0].along_row, slices[0].along_column
    normal = volume.affine[:3, 2] / np.linalg.norm(volume.affine[:3, 2])
    depths = np.array([one.first @ normal for one in slices])
    index = np.moveaxis(np.indices(volume.shape), 0, -1)
    places = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    for k in range(volume.shape[2]):
        plane = places[:, :, k]
        depth = float(np.clip(plane[0, 0] @ normal, depths[0], depths[-1]))
        upper = int(np.clip(np.searchsorted(depths, depth), 1, len(depths) - 1))
        share = (depth - depths[upper - 1]) / (depths[upper] - depths[upper - 1])
        value = np.zeros(plane.shape[:2])
        for true, weight in ((slices[upper - 1], 1 - share), (slices[upper], share)):
            away = plane - true.first
            row = away @ unit_column / (unit_column @ unit_column)
            column = away @ unit_row / (unit_row @ unit_row)
            # Outside of a slice there is nothing to compare with.
            at = map_coordinates(true.values, [row, column], order=1, cval=np.nan)
            value += weight * at if weight else 0
        known = np.isfinite(value)
        off = np.asarray(volume.array[:, :, k], dtype=np.float64) - value
        if np.abs(off[known]).max(initial=0) > 0.51:
            return f"interpolated plane {k + 1} does not have the values of its place"
    return ""


def _way_back(volume: Volume, slices: Sequence[TrueSlice]) -> str:
    """Whether each stored pixel finds a voxel of its own, and the one that it lies in."""
    numbers = np.arange(volume.array.size).reshape(volume.shape)
    taken = to_source_slices(numbers, volume)
    if len(np.unique(taken)) != taken.size:
        return "two stored pixels share a voxel"
    inverse = np.linalg.inv(volume.affine[:3, :3])
    for labels, true in zip(taken, slices, strict=True):
        index = np.stack(np.unravel_index(labels, volume.shape), axis=-1)
        exact = (true.places - volume.affine[:3, 3]) @ inverse.T
        if np.abs(index - exact).max() > 0.5 + 1e-6:
            return "a stored pixel got the label of another voxel"
    return ""
