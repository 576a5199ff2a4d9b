from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import uid

from nestseg_prep import phantom
from nestseg_prep.dicom.scan import scan
from nestseg_prep.dicom.series import read_series
from nestseg_prep.errors import InputError
from nestseg_prep.phantom import Phantom
from nestseg_prep.reading import read_volume

PLANES = sorted(phantom.PLANES)


def only_series(folder):
    result = scan(folder)
    (ref,) = result.series
    assert ref.accepted, ref.reason
    assert not result.others
    return ref


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("plane", PLANES)
def test_a_clean_series_comes_back_exactly(plane, modality, tmp_path, misplacement):
    source = Phantom(plane=plane, modality=modality)
    phantom.write(source.datasets(), tmp_path)
    ref = only_series(tmp_path)
    volume = read_series(ref)
    assert misplacement(volume, source.datasets()) < 1e-3
    np.testing.assert_array_equal(volume.array, source.truth.array)
    np.testing.assert_allclose(volume.affine, source.truth.affine, atol=1e-6)
    assert volume.sop_uids == source.truth.sop_uids
    assert volume.series_uid == source.truth.series_uid
    assert ref.orientation == plane
    assert ref.modality == modality
    assert ref.shape == volume.shape == (32, 24, 12)
    assert ref.spacing == pytest.approx((0.7, 0.8, 2.5))


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("order", [phantom.shuffled, lambda count: range(count)[::-1]])
def test_instance_numbers_and_file_order_do_not_matter(plane, order, tmp_path):
    source = Phantom(plane=plane)
    phantom.write(phantom.in_order(order)(source.datasets()), tmp_path)
    np.testing.assert_array_equal(read_volume(only_series(tmp_path)).array, source.truth.array)


def test_names_and_folders_of_files_do_not_matter(tmp_path):
    source = Phantom()
    names = [f"{'abc'[number % 3]}/{number * 7919 % 101:x}" for number in range(12)]
    for sub in "abc":
        (tmp_path / sub).mkdir()
    phantom.write(source.datasets(), tmp_path, name=names.__getitem__)
    np.testing.assert_array_equal(read_volume(only_series(tmp_path)).array, source.truth.array)


@given(
    plane=st.sampled_from(PLANES),
    columns=st.integers(1, 9),
    rows=st.integers(1, 9),
    slices=st.integers(3, 7),
    spacing=st.tuples(*[st.floats(0.1, 5).map(lambda mm: round(mm, 4))] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_size_spacing_and_place_comes_back(
    plane, columns, rows, slices, spacing, origin, tmp_path_factory
):
    source = Phantom(plane, "CT", columns, rows, slices, *spacing, origin)
    folder = tmp_path_factory.mktemp("series")
    phantom.write(source.datasets(), folder)
    volume = read_volume(only_series(folder))
    np.testing.assert_array_equal(volume.array, source.truth.array)
    np.testing.assert_allclose(volume.affine, source.truth.affine, atol=1e-3)


@pytest.mark.parametrize(
    "syntax",
    [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian,
     uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless],
    ids=lambda syntax: syntax.keyword,
)  # fmt: skip
def test_a_lossless_transfer_syntax_changes_no_voxel(syntax, tmp_path):
    source = Phantom(slices=3, columns=33, rows=64)  # openjpeg wants at least 32 each way
    phantom.write(source.datasets(), tmp_path, syntax=syntax)
    np.testing.assert_array_equal(read_volume(only_series(tmp_path)).array, source.truth.array)


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian])
def test_files_without_preamble_and_meta_information_are_read(syntax, tmp_path):
    source = Phantom(slices=3)
    for number, ds in enumerate(source.datasets()):
        ds.save_as(tmp_path / f"{number}", implicit_vr=syntax.is_implicit_VR, little_endian=True)
    np.testing.assert_array_equal(read_volume(only_series(tmp_path)).array, source.truth.array)


def test_each_slice_is_rescaled_by_its_own_slope(tmp_path, misplacement):
    def own_slope(series):
        for number, ds in enumerate(series):
            ds.RescaleSlope, ds.RescaleIntercept = f"{0.25 + number / 8}", str(-number)
        return series

    source = own_slope(Phantom(slices=4).datasets())
    phantom.write(source, tmp_path)
    volume = read_volume(only_series(tmp_path))
    assert volume.array.dtype == np.float32
    assert misplacement(volume, source) < 1e-3


def test_bits_that_are_not_stored_do_not_count(tmp_path):
    source = Phantom(slices=3, columns=16, rows=16)

    def garbage(ds):
        ds.BitsStored, ds.HighBit = 12, 11
        phantom.set_pixels(ds, phantom.get_pixels(ds) | 0xA000)

    phantom.write(phantom.every(garbage)(source.datasets()), tmp_path)
    np.testing.assert_array_equal(read_volume(only_series(tmp_path)).array, source.truth.array)


def test_signed_values_are_extended_from_their_highest_stored_bit(tmp_path):
    source = Phantom(slices=3, columns=16, rows=16, modality="MR")

    def signed(ds):
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, 1
        phantom.set_pixels(ds, (phantom.get_pixels(ds).astype(int) - 400) & 0x0FFF)

    phantom.write(phantom.every(signed)(source.datasets()), tmp_path)
    volume = read_volume(only_series(tmp_path))
    np.testing.assert_array_equal(volume.array, source.truth.array - 400)
    assert volume.array.dtype == np.int16


@pytest.mark.parametrize(
    ("bits", "intercept", "highest", "dtype"),
    [
        (12, -1024, 4095, "int16"),
        (16, 0, 0, "uint16"),
        (16, -1024, 0, "int16"),
        (16, -1024, 32767 + 1024, "int16"),
        (16, -1024, 32768 + 1024, "int32"),
    ],
)
def test_integers_get_the_smallest_type_that_holds_them(bits, intercept, highest, dtype, tmp_path):
    def change(ds):
        phantom.setting(BitsStored=bits, HighBit=bits - 1, RescaleIntercept=intercept)(ds)
        if highest and ds.InstanceNumber == 2:
            stored = phantom.get_pixels(ds).copy()
            stored[3, 4] = highest
            phantom.set_pixels(ds, stored)

    source = Phantom(slices=3, columns=8, rows=8)
    phantom.write(phantom.every(change)(source.datasets()), tmp_path)
    array = read_volume(only_series(tmp_path)).array
    assert array.dtype == dtype
    assert array.max() == max(highest, source.truth.array.max() + 1024) + intercept


def test_a_refused_series_cannot_be_read(tmp_path):
    phantom.write(phantom.without_slice(5)(Phantom().datasets()), tmp_path)
    (ref,) = scan(tmp_path).series
    with pytest.raises(InputError, match=f"{ref.key}: refused; missing-slice"):
        read_volume(ref)


def test_a_file_that_breaks_after_the_scan_is_an_error_of_its_series(tmp_path):
    paths = phantom.write(Phantom().datasets(), tmp_path)
    ref = only_series(tmp_path)
    phantom.cut_file(paths[3], 0.9)
    with pytest.raises(InputError, match="slice 4 of 12"):
        read_volume(ref)
    Path(paths[3]).unlink()
    with pytest.raises(InputError, match="slice 4 of 12"):
        read_volume(ref)
