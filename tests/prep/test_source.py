"""Volumes that were interpolated from their slices, and masks on the way back to them."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestseg_prep import phantom
from nestseg_prep.dicom.findings import Code
from nestseg_prep.dicom.scan import scan
from nestseg_prep.errors import InputError
from nestseg_prep.phantom import Phantom
from nestseg_prep.reading import read_volume
from nestseg_prep.source import SourceGrid, SourceSlice
from nestseg_prep.volume import Volume, to_source_slices


def slanting(series):
    """Sideways in proportion to the depth, whatever the distances."""
    start = series[0].ImagePositionPatient[2]
    depths = [float(ds.ImagePositionPatient[2] - start) for ds in series]
    return phantom.moved(lambda number: (0, depths[number] / 3, 0))(series)


SHIFTS = {
    "clean": lambda series: series,
    "tilted": phantom.tilted(15),
    "tilted the other way": phantom.tilted(-22.5),
    "uneven": phantom.uneven(),
    "tilted and uneven": lambda series: slanting(phantom.uneven()(series)),
    "jitter": phantom.moved(lambda number: 0.06 * np.array([(-1) ** number, 0, (-1) ** number])),
}


def read_one(folder):
    (ref,) = scan(folder).series
    assert ref.accepted, ref.reason
    return ref, read_volume(ref)


def places_of(ds):
    """RAS mm of every pixel of a slice, ``(rows, columns, 3)``: PS3.3 C.7.6.2.1.1 alone."""
    columns, rows = np.meshgrid(np.arange(ds.Columns), np.arange(ds.Rows))
    cosines = np.array(ds.ImageOrientationPatient, dtype=float)
    between_rows, between_columns = map(float, ds.PixelSpacing)
    lps = np.array(ds.ImagePositionPatient, dtype=float)
    lps = lps + cosines[:3] * between_columns * columns[..., None]
    return (lps + cosines[3:] * between_rows * rows[..., None]) * [-1, -1, 1]


@pytest.mark.parametrize(
    ("plane", "shift"), [("oblique", "clean"), *(("axial", shift) for shift in SHIFTS)]
)
def test_each_stored_pixel_gets_the_voxel_that_it_lies_in(shift, plane, tmp_path):
    series = SHIFTS[shift](Phantom(plane).datasets())
    paths = phantom.write(series, tmp_path)
    _, volume = read_one(tmp_path)
    # A mask whose label is the number of its own voxel.
    numbers = np.arange(volume.array.size, dtype=np.int64).reshape(volume.shape)
    taken = to_source_slices(numbers, volume)
    by_uid = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, paths)}
    assert [frame for _, frame in volume.source.slices] == [0] * 12
    for (uid, _), labels in zip(volume.source.slices, taken, strict=True):
        index = np.stack(np.unravel_index(labels, volume.shape), axis=-1)
        ras = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
        away = (ras - places_of(by_uid[uid])) @ np.linalg.inv(volume.affine[:3, :3]).T
        assert np.abs(away).max() <= 0.5 + 1e-6
    assert len(np.unique(taken)) == taken.size


def test_the_slices_of_a_clean_series_come_back_as_they_are_stored(tmp_path):
    paths = phantom.write(Phantom("oblique", modality="MR").datasets(), tmp_path)
    _, volume = read_one(tmp_path)
    taken = to_source_slices(volume.array, volume)
    for path, image in zip(paths, taken, strict=True):
        np.testing.assert_array_equal(image, pydicom.dcmread(path).pixel_array)
    assert volume.source.holds_voxels_of(volume.shape)


@pytest.mark.parametrize("shift", [name for name in SHIFTS if name != "clean"])
def test_interpolated_values_are_those_of_the_place(shift, tmp_path):
    """The phantom's values grow linearly in space, where linear interpolation is exact."""
    rows, columns = 24, 32
    series = SHIFTS[shift](Phantom(modality="MR").datasets())
    paths = phantom.write(series, tmp_path)
    ref, volume = read_one(tmp_path)
    assert ref.resampled
    assert volume.sop_uids == ()
    stored = [pydicom.dcmread(path) for path in paths]
    depths = np.array([float(ds.ImagePositionPatient[2]) for ds in stored])
    origins = np.array([ds.ImagePositionPatient for ds in stored], dtype=float)
    index = np.stack(np.meshgrid(*map(np.arange, volume.shape), indexing="ij"), axis=-1)
    x, y, z = np.moveaxis(index @ volume.affine[:3, :3].T + volume.affine[:3, 3], -1, 0)
    # Where the point lies in the sheared stack: slice, then row and column within it.
    slices = np.interp(z, depths, np.arange(12))
    left = np.interp(z, depths, origins[:, 0])
    top = np.interp(z, depths, origins[:, 1])
    column, row = (-x - left) / 0.7, (-y - top) / 0.8
    known = column + columns * row + columns * rows * slices
    # At the rim one of the two neighbours may have no pixel.
    inside = (column > 1) & (column < columns - 2) & (row > 2) & (row < rows - 3)
    inside &= (z >= depths[0]) & (z <= depths[-1])
    assert inside.sum() > 0.6 * volume.array.size * (rows * columns) / np.prod(volume.shape[:2])
    np.testing.assert_allclose(volume.array[inside], known[inside], atol=0.5 + 1e-3)


def test_what_was_interpolated_says_so(tmp_path):
    for shift, codes in {
        "tilted": {Code.GANTRY_TILT},
        "uneven": {Code.UNEVEN_SPACING},
        "tilted and uneven": {Code.GANTRY_TILT, Code.UNEVEN_SPACING},
    }.items():
        phantom.write(SHIFTS[shift](Phantom().datasets()), tmp_path / shift)
        (ref,) = scan(tmp_path / shift).series
        assert {finding.code for finding in ref.findings} == codes
        assert ref.orientation == "axial"


@given(
    gaps=st.lists(st.floats(1, 8), min_size=2, max_size=9),
    shift=st.tuples(st.floats(-3, 3), st.floats(-3, 3)),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_any_mask_laid_on_the_grid_comes_back(gaps, shift, seed):
    depths = np.concatenate([[0], np.cumsum(np.array(gaps) / min(gaps))])
    offsets = np.outer(np.arange(len(depths)), shift)
    offsets -= offsets.min(axis=0)
    grid = SourceGrid(
        tuple(SourceSlice(str(n), 0) for n in range(len(depths))),
        rows=5,
        columns=4,
        first_pixels=np.column_stack([offsets[:, 0], offsets[:, 1] + 4, depths]),
    )
    most = np.ceil(offsets.max(axis=0)).astype(int)
    shape = (4 + most[0], 5 + most[1], int(np.floor(depths[-1] + 0.5)) + 1)
    mask = np.random.default_rng(seed).integers(0, 9, (len(depths), 5, 4))
    laid = np.zeros(shape, dtype=np.uint8)
    for (i, j, k), image in zip(grid.nearest, mask, strict=True):
        laid[i : i + 4, j - 4 : j + 1, k] = image[::-1].T
    volume = Volume(np.zeros(shape), np.eye(4), source=grid)
    np.testing.assert_array_equal(to_source_slices(laid, volume), mask)


def test_a_mask_of_another_grid_or_without_slices_is_refused(tmp_path):
    phantom.write(Phantom().datasets(), tmp_path)
    _, volume = read_one(tmp_path)
    with pytest.raises(InputError, match="does not fit"):
        to_source_slices(volume.array[1:], volume)
    with pytest.raises(InputError, match="NIfTI"):
        to_source_slices(volume.array, Volume(volume.array, volume.affine))
