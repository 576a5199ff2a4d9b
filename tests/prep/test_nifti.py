import gzip
import os
import re
import struct

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from SimpleITK import GetArrayFromImage, ReadImage

from nestseg_prep import nifti
from nestseg_prep.affine import corner_distance, shear, spacing
from nestseg_prep.dicom.findings import Code
from nestseg_prep.dicom.scan import scan
from nestseg_prep.errors import InputError
from nestseg_prep.nifti import read_nifti, write_nifti
from nestseg_prep.phantom import PLANES, Phantom
from nestseg_prep.volume import Volume

AFFINE = np.array([[-0.7, 0, 0, 10], [0, 0.8, 0, -20], [0, 0, 2.5, 30], [0, 0, 0, 1.0]])


def image(array=None, affine=AFFINE, codes=(1, 1), kind=nib.Nifti1Image):
    array = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6) if array is None else array
    made = kind(array, affine)
    made.set_qform(affine, codes[0])
    made.set_sform(affine, codes[1])
    return made


@pytest.fixture
def path(tmp_path):
    return tmp_path / "image.nii.gz"


@pytest.mark.parametrize("plane", sorted(PLANES))
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_volume_comes_back_exactly(plane, suffix, tmp_path):
    volume = Phantom(plane=plane).truth
    write_nifti(volume, tmp_path / f"v{suffix}")
    back = read_nifti(tmp_path / f"v{suffix}")
    np.testing.assert_array_equal(back.array, volume.array)
    np.testing.assert_allclose(back.affine, volume.affine, atol=1e-4)
    assert back.array.dtype == volume.array.dtype


@given(
    npst.arrays(
        st.sampled_from(["u1", "i1", "<i2", ">i2", "u2", "i4", "f4", "f8", "i8", "?"]),
        npst.array_shapes(min_dims=3, max_dims=3, max_side=5),
        elements={"min_value": 0, "max_value": 100},
    )
)
@settings(max_examples=40, deadline=None)
def test_values_of_any_type_survive(tmp_path_factory, array):
    path = tmp_path_factory.mktemp("nifti") / "v.nii.gz"
    write_nifti(Volume(array, AFFINE), path)
    np.testing.assert_array_equal(read_nifti(path).array, array)


def test_the_same_volume_gives_the_same_bytes_and_both_forms(tmp_path):
    volume = Phantom().truth
    for name in ("a.nii.gz", "b.nii.gz"):
        write_nifti(volume, tmp_path / name)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    header = nib.load(tmp_path / "a.nii.gz").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(header.get_qform(), header.get_sform(), atol=1e-4)


def test_file_rights_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_nifti(Phantom().truth, tmp_path / "v.nii.gz")
    finally:
        os.umask(before)
    assert (tmp_path / "v.nii.gz").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("moment", ["_write", "_verify"])
def test_a_write_that_fails_leaves_what_was_there(moment, path, monkeypatch):
    write_nifti(Phantom().truth, path)
    before = path.read_bytes()

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nifti, moment, full_disk)
    with pytest.raises(OSError, match="No space"):
        write_nifti(Phantom(slices=5).truth, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_the_disk_falsifies_is_noticed(path, monkeypatch):
    def write_wrongly(array, affine, path, *_):
        image(np.zeros_like(array), affine).to_filename(path)

    monkeypatch.setattr(nifti, "_write", write_wrongly)
    with pytest.raises(OSError, match="reads back differently"):
        write_nifti(Phantom().truth, path)
    assert not list(path.parent.iterdir())


def test_a_sheared_volume_is_not_written(path):
    sheared = np.eye(4)
    sheared[1, 2] = 0.3
    with pytest.raises(InputError, match="qform and sform"):
        write_nifti(Volume(np.zeros((20, 20, 20), np.int16), sheared), path)
    assert not list(path.parent.iterdir())


def test_integers_stay_integers_and_scaling_is_applied(path):
    image().to_filename(path)
    assert read_nifti(path).array.dtype == np.int16
    scaled = image()
    scaled.header.set_slope_inter(0.5, -3)
    scaled.to_filename(path)
    raw = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    np.testing.assert_array_equal(read_nifti(path).array, raw * 0.5 - 3)
    assert read_nifti(path).array.dtype == np.float32


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_step_says_what_a_unit_stands_for(suffix, tmp_path):
    stored = np.random.default_rng(0).integers(0, 65536, (4, 5, 6)).astype(np.uint16)
    file = tmp_path / f"v{suffix}"
    write_nifti(Volume(stored, AFFINE), file, step=1 / 65535)
    back = read_nifti(file)
    assert back.array.dtype == np.float32
    np.testing.assert_allclose(back.array, stored / 65535, atol=1e-6)
    np.testing.assert_allclose(back.affine, AFFINE, atol=1e-5)
    other = nib.load(file)
    assert other.header.get_data_dtype() == np.uint16
    np.testing.assert_allclose(other.get_fdata(), stored / 65535, atol=1e-6)
    np.testing.assert_allclose(GetArrayFromImage(ReadImage(file)).T, stored / 65535, atol=1e-6)


def test_what_was_read_does_not_change_with_the_file(tmp_path):
    file = tmp_path / "v.nii"
    write_nifti(Volume(np.full((4, 5, 6), 7, np.int16), AFFINE), file)
    volume = read_nifti(file)
    with file.open("r+b") as stream:
        stream.seek(352)
        stream.write(bytes(240))
    assert (volume.array == 7).all()


def test_singleton_axes_are_dropped_and_nifti_2_is_read(path):
    raw = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    image(raw[..., None, None], kind=nib.Nifti2Image).to_filename(path)
    np.testing.assert_array_equal(read_nifti(path).array, raw)


def test_the_only_form_with_a_code_counts(path):
    for codes in [(0, 2), (1, 0)]:
        image(codes=codes).to_filename(path)
        np.testing.assert_allclose(read_nifti(path).affine, AFFINE, atol=1e-5)


def test_a_few_voxels_that_are_not_finite_become_the_lowest_value(path):
    array = np.full((20, 20, 20), 7.0, np.float32)
    array[0, 0, 0], array[1, 1, 1], array[2, 2, 2] = np.nan, np.inf, -5
    image(array).to_filename(path)
    read = read_nifti(path).array
    assert read[0, 0, 0] == read[1, 1, 1] == -5


# Fields of nifti1.h by their offset in bytes.
REFUSED_HEADERS = {
    "qform and sform": ("<f", 268, 10.2),  # qoffset_x
    "codes are 0": ("<2h", 252, 0, 0),  # qform_code, sform_code
    "not an invertible": ("<4f", 296, 0, 0, 0, 0),  # srow_y
    "unknown code": ("<B", 123, 5),  # xyzt_units
    "unit is metres": ("<B", 123, 1),
}


@pytest.mark.parametrize("word", REFUSED_HEADERS)
def test_geometry_that_needs_guessing_is_refused(word, path):
    content = bytearray(image().to_bytes())
    struct.pack_into(*REFUSED_HEADERS[word][:1], content, *REFUSED_HEADERS[word][1:])
    path.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(InputError, match=word):
        read_nifti(path)


def test_the_sign_of_a_spacing_does_not_matter(path):
    content = bytearray(image(codes=(0, 1)).to_bytes())
    struct.pack_into("<f", content, 80, -0.7)
    path.write_bytes(gzip.compress(bytes(content)))
    np.testing.assert_allclose(read_nifti(path).affine, AFFINE, atol=1e-6)


@pytest.mark.parametrize("pixdim", [0.0, 2.0, np.nan])
def test_a_spacing_that_differs_from_the_affine_is_refused(pixdim, path):
    content = bytearray(image(codes=(0, 1)).to_bytes())
    struct.pack_into("<f", content, 80, pixdim)  # pixdim[1]
    path.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(InputError, match="pixdim"):
        read_nifti(path)


def sheared(by, path):
    affine = np.diag([0.7, 0.8, 2.5, 1.0])
    affine[0, 2] = by * 2.5
    found = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), None)
    found.set_sform(affine, code=1)
    found.header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)
    found.to_filename(path)
    return affine


def test_axes_slightly_askew_are_straightened_about_the_centre(path):
    affine = sheared(5e-4, path)
    volume = read_nifti(path)
    assert shear(volume.affine) < 1e-9
    np.testing.assert_allclose(volume.spacing, spacing(affine), rtol=1e-6)
    centre = [1, 1.5, 2, 1]
    np.testing.assert_allclose(volume.affine @ centre, affine @ centre, atol=1e-5)
    assert 0 < corner_distance(volume.affine, affine, volume.shape) < 5e-3
    (ref,) = scan(path).series
    assert [finding.code for finding in ref.findings] == [Code.NIFTI_STRAIGHTENED]
    write_nifti(volume, path.with_name("again.nii.gz"))


def test_a_sheared_grid_is_refused(path):
    sheared(0.02, path)
    with pytest.raises(InputError, match="right angles"):
        read_nifti(path)


RGB = np.zeros((2, 2, 2), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.zeros((4, 4, 4, 2), np.int16), "4 axes"),
        (np.zeros((4, 4), np.int16), "2 axes"),
        (np.zeros((4, 4, 4, 1, 3), np.float32), "5 axes"),
        (np.zeros((4, 4, 4), np.complex64), "complex64"),
        (RGB, r"in colour \(RGB\)"),
        (np.full((4, 4, 4), np.nan, np.float32), "NaN"),
    ],
)
def test_voxels_that_are_not_one_grey_volume_are_refused(array, word, path):
    image(array).to_filename(path)
    with pytest.raises(InputError, match=word):
        read_nifti(path)


def test_no_cut_of_a_file_is_taken_for_a_whole_one(tmp_path):
    array = np.random.default_rng(0).integers(0, 9000, (8, 9, 10)).astype(np.int16)
    for name in ("v.nii", "v.nii.gz"):
        path = tmp_path / name
        write_nifti(Volume(array, AFFINE), path)
        whole = path.read_bytes()
        for keep in (0, 3, 100, 347, 352, len(whole) // 2, len(whole) - 9, len(whole) - 1):
            path.write_bytes(whole[:keep])
            with pytest.raises(InputError, match=re.escape(name)):
                read_nifti(path)


@pytest.mark.parametrize("where", [-8, -5, -1, 400])
def test_a_flipped_bit_in_a_compressed_file_is_noticed(where, path):
    array = np.random.default_rng(0).integers(0, 9000, (8, 9, 10)).astype(np.int16)
    write_nifti(Volume(array, AFFINE), path)
    content = bytearray(path.read_bytes())
    content[where] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(InputError):
        read_nifti(path)


def test_python_unpacks_what_was_packed(tmp_path):
    array = np.random.default_rng(0).integers(0, 9000, (8, 9, 10)).astype(np.int16)
    for suffix in (".nii", ".nii.gz"):
        write_nifti(Volume(array, AFFINE), tmp_path / f"a{suffix}")
    packed = (tmp_path / "a.nii.gz").read_bytes()
    assert gzip.decompress(packed) == (tmp_path / "a.nii").read_bytes()
    assert packed[4:8] == bytes(4), "no time"
    assert not packed[3], "no name"


def test_what_stands_behind_a_packed_file_is_seen(path):
    write_nifti(Volume(np.arange(60, dtype=np.int16).reshape(3, 4, 5), AFFINE), path)
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(512))  # as tapes pad
    assert read_nifti(path).array.max() == 59
    path.write_bytes(whole + b"something else")
    with pytest.raises(InputError, match="other bytes follow"):
        read_nifti(path)


def test_a_header_that_declares_the_impossible_allocates_nothing(path):
    content = bytearray(image().to_bytes())
    struct.pack_into("<4h", content, 40, 3, 32000, 32000, 32000)
    with gzip.open(path, "wb") as file:
        file.write(content)
    with pytest.raises(InputError, match="GiB"):
        read_nifti(path)
    struct.pack_into("<4h", content, 40, 3, 600, 600, 600)
    with gzip.open(path, "wb") as file:
        file.write(content)
    with pytest.raises(InputError, match="cannot hold"):
        read_nifti(path)
    struct.pack_into("<4h", content, 40, 3, -4, 5, 6)
    path.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(InputError):
        read_nifti(path)


def test_voxels_inside_the_header_are_refused(path):
    content = bytearray(image().to_bytes())
    struct.pack_into("<f", content, 108, 0.0)
    path.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(InputError, match="inside the header"):
        read_nifti(path)


def test_analyze_text_and_pickles_are_refused(path):
    analyze = nib.AnalyzeImage(np.zeros((4, 5, 6), np.int16), np.eye(4))
    for content in (analyze.header.binaryblock + bytes(240), b"hello", b"\x80\x04" + bytes(400)):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"Analyze|not a NIfTI"):
            read_nifti(path)


def test_a_missing_file_stays_what_it_is(path):
    with pytest.raises(FileNotFoundError):
        read_nifti(path)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("codes", [(1, 1), (0, 2), (1, 0)])
@pytest.mark.parametrize(("unit", "scale"), [("micron", 1000), ("meter", 0.001), ("unknown", 1)])
def test_geometry_in_another_unit_comes_back_in_mm(unit, scale, codes, kind, path):
    affine = AFFINE.copy()
    affine[:3] *= scale
    made = image(affine=affine, codes=codes, kind=kind)
    made.header.set_xyzt_units(unit)
    made.to_filename(path)
    volume = read_nifti(path)
    np.testing.assert_allclose(volume.affine, AFFINE, rtol=1e-6, atol=1e-5)
    assert volume.spacing == pytest.approx((0.7, 0.8, 2.5), rel=1e-6)
    (ref,) = scan(path).accepted
    assert [finding.code for finding in ref.findings] == [Code.NIFTI_UNIT] * (unit != "unknown")
    write_nifti(volume, path)
    np.testing.assert_allclose(read_nifti(path).affine, AFFINE, rtol=1e-6, atol=1e-5)
    assert nib.load(path).header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize(
    ("slope", "intercept", "said"),
    [
        (1, np.inf, "scl_inter inf"),
        (2, np.nan, "scl_inter nan"),
        (np.inf, 0, "scl_slope inf"),
        (np.nan, -1024, "scl_inter -1024"),
    ],
)
def test_a_scaling_that_gives_no_true_values_is_named(slope, intercept, said, path):
    content = bytearray(image().to_bytes())
    struct.pack_into("<2f", content, 112, slope, intercept)
    path.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(InputError, match=said):
        read_nifti(path)
    (ref,) = scan(path).series
    assert said in ref.refusal.detail


@pytest.mark.parametrize("slope", [0.0, np.nan])
def test_without_a_slope_values_are_as_stored(slope, path):
    content = bytearray(image().to_bytes())
    struct.pack_into("<2f", content, 112, slope, 0.0)
    path.write_bytes(gzip.compress(bytes(content)))
    np.testing.assert_array_equal(read_nifti(path).array, np.asarray(image().dataobj))
