"""Files that are not what they are called: each is told what it is, or read by its content."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom import uid
from pydicom.encaps import get_frame

from nestseg_prep import phantom
from nestseg_prep.dicom import codestream, files
from nestseg_prep.dicom.findings import Code
from nestseg_prep.dicom.formats import APPLE_DOUBLE
from nestseg_prep.dicom.scan import scan
from nestseg_prep.nifti import write_nifti
from nestseg_prep.phantom import Phantom
from nestseg_prep.phantom.file_kinds import FILE_KINDS
from nestseg_prep.reading import read_volume

CT = Phantom()
LARGE = Phantom(columns=33, rows=64, slices=3)
DOUBLE = b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(300)


def only_other(folder):
    result = scan(folder)
    (other,) = result.others
    assert not result.series
    return other.finding


@pytest.mark.parametrize(
    ("name", "format_name"),
    [
        ("x.vtk", "VTK"),
        ("x.gipl", "GIPL"),
    ],
)
def test_other_formats_of_volumes_are_named(name, format_name, tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(CT.values.T), str(tmp_path / name))
    finding = only_other(tmp_path)
    assert (finding.code, finding.detail) == (Code.OTHER_FORMAT, format_name)


@pytest.mark.parametrize("name", ["scan.dcm", "scan.nii.gz", "SCAN.NII", "scan.IMA", "scan.txt"])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS"),
        (b"/annex/objects/MD5E-s100--abc.nii.gz\n", "git-annex"),
        (b"../../.git/annex/objects/xx/yy/MD5E-s100--abc", "git-annex"),
        (b"<!DOCTYPE html><html>404</html>", "HTML"),
        (b"\n<HTML><body>Sign in</body></HTML>", "HTML"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML"),
        (b"<Error><Code>NoSuchKey</Code></Error>", "XML"),
        (b'{"message": "Not Found"}', "JSON"),
        (b"%PDF-1.7 and so on", "PDF"),
        (b"\x89PNG\r\n\x1a\n and so on", "PNG"),
        (bytes(3000), "zeros"),
        (b"", "empty"),
    ],
)
def test_what_was_saved_in_place_of_an_image_is_named(name, content, what, tmp_path):
    (tmp_path / name).write_bytes(content)
    result = scan(tmp_path)
    findings = [other.finding for other in result.others]
    findings += [finding for ref in result.series for finding in ref.findings]
    (finding,) = findings
    image = not name.endswith("txt")
    assert finding.code is (Code.WRONG_CONTENT if image else Code.NOT_AN_IMAGE_FILE)
    assert what in finding.detail
    assert not result.accepted


@pytest.mark.parametrize("name", ["._a.nii.gz", "._a.dcm", "._a"])
def test_attributes_that_macos_left_are_neither_images_nor_lost_slices(name, tmp_path):
    phantom.write(CT.datasets(), tmp_path, name="{}.dcm".format if "dcm" in name else str)
    (tmp_path / name).write_bytes(DOUBLE)
    result = scan(tmp_path)
    assert [other.finding.detail for other in result.others] == [APPLE_DOUBLE]
    (ref,) = result.accepted
    assert not ref.findings


def test_a_pointer_in_place_of_a_slice_without_suffix_refuses_the_series(tmp_path):
    last = phantom.write(CT.datasets(), tmp_path, name=str)[-1]
    last.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64)
    (ref,) = scan(tmp_path).series
    assert ref.refusal.code is Code.UNREADABLE_MEMBER


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["a", "a.dcm", "a.img.bak", "a.gz", "a.nii", "a.nii.gz", "A.NII"])
def test_nifti_is_read_under_any_name(name, packed, tmp_path):
    write_nifti(CT.truth, tmp_path / "whole.nii")
    content = (tmp_path / "whole.nii").read_bytes()
    (tmp_path / "whole.nii").unlink()
    (tmp_path / name).write_bytes(gzip.compress(content) if packed else content)
    (ref,) = scan(tmp_path).accepted
    np.testing.assert_array_equal(read_volume(ref).array, CT.truth.array)


def test_dicom_is_read_under_the_name_of_nifti(tmp_path):
    phantom.write(CT.datasets(), tmp_path, name="{}.nii".format)
    (ref,) = scan(tmp_path).accepted
    np.testing.assert_array_equal(read_volume(ref).array, CT.truth.array)


# --- How pixels are encoded ----------------------------------------------------------------------

ENCODED = [
    uid.RLELossless,
    uid.JPEGLSLossless,
    uid.JPEG2000Lossless,
    uid.JPEGLosslessSV1,
]


def write_as(syntax, folder):
    series = LARGE.datasets()
    if syntax == uid.JPEGLosslessSV1:
        series = [phantom.jpeg_lossless(ds) for ds in series]
    return phantom.write(series, folder, syntax=syntax)


@pytest.mark.parametrize("syntax", ENCODED)
def test_a_code_stream_says_how_it_is_encoded(syntax, tmp_path):
    with files.open_plain(write_as(syntax, tmp_path)[0]) as file:
        dataset = files.read_dataset(file)
    stream = get_frame(dataset.PixelData, 0, number_of_frames=1)
    assert codestream.kind(stream) == codestream.declared_kind(syntax)
    assert codestream.kind(LARGE.datasets()[0].PixelData) is None


@pytest.mark.parametrize("label", [uid.ExplicitVRLittleEndian, *ENCODED])
@pytest.mark.parametrize("written", [uid.ExplicitVRLittleEndian, *ENCODED])
def test_a_wrong_transfer_syntax_is_found_by_the_scan(written, label, tmp_path):
    paths = write_as(written, tmp_path)
    phantom.relabel(paths[1], label)
    (ref,) = scan(tmp_path).series
    if written == label:
        assert ref.accepted
    else:
        assert (ref.refusal.code, ref.refusal.detail) == (
            *(Code.WRONG_TRANSFER_SYNTAX, "1 of 3 files"),
        )


def test_a_bare_jpeg_stream_in_place_of_pixels_is_not_called_cut(tmp_path):
    series = LARGE.datasets()
    for ds, packed in zip(series, map(phantom.jpeg_lossless, series), strict=True):
        stream = get_frame(packed.PixelData, 0, number_of_frames=1)
        ds.PixelData = stream + bytes(len(stream) % 2)
    phantom.write(series, tmp_path)
    (ref,) = scan(tmp_path).series
    assert ref.refusal.code is Code.WRONG_TRANSFER_SYNTAX


def test_at_least_eighteen_kinds_of_odd_files_are_in_the_catalogue():
    assert len({kind.name for kind in FILE_KINDS}) == len(FILE_KINDS) >= 18
