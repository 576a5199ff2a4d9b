"""The odd series that hospitals hold: each is read exactly, split, or refused with its code."""

from __future__ import annotations

import gzip
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pydicom
import pytest
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from pydicom import uid
from pydicom.dataset import Dataset

from nestseg_prep import phantom
from nestseg_prep.dicom.findings import Code
from nestseg_prep.dicom.scan import scan
from nestseg_prep.phantom import Phantom, every, only, setting
from nestseg_prep.reading import read_volume


@dataclass(frozen=True)
class Kind:
    """A series and what must become of it.

    Attributes:
        build: makes the data sets.
        volumes: how many volumes are read.
        codes: findings that must be there.
        misplaced: how far in mm a voxel may lie from where its file says.
    """

    build: Callable[[], phantom.Series]
    volumes: int
    codes: tuple[Code, ...] = ()
    misplaced: float = 1e-3


CT = Phantom()
MR = Phantom(modality="MR")
SCOUT = setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
OTHER = Phantom(name="other", origin=(50.0, -80.0, 200.0), between_slices=4.0)


def planes():
    return phantom.as_one_series(
        *(Phantom(plane, name=plane).datasets() for plane in ("axial", "coronal", "sagittal"))
    )


def damaged(damage, source=CT):
    return lambda: damage(source.datasets())


def rounded(digits):
    def change(ds):
        ds.ImageOrientationPatient = [round(float(c), digits) for c in ds.ImageOrientationPatient]

    return every(change)


def jitter(mm):
    noise = np.random.default_rng(1).choice([-mm, mm], (12, 3))
    return phantom.moved(lambda number: noise[number])


def rotated(ds):
    ds.ImageOrientationPatient = [0, 1, 0, 1, 0, 0]


def colour(ds):
    ds.SamplesPerPixel, ds.PlanarConfiguration, ds.PhotometricInterpretation = 3, 0, "RGB"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PixelData = bytes(ds.Rows * ds.Columns * 3)


def smaller(ds):
    phantom.set_pixels(ds, phantom.get_pixels(ds)[:20])
    ds.Rows = 20


def half_pixels(ds):
    ds.PixelData = ds.PixelData[: len(ds.PixelData) // 2]


def lookup_table():
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [2, 0, 16], "US"
    table.add_new("LUTData", "US", [0, 1])
    return table


KINDS = {
    "clean": Kind(CT.datasets, 1),
    "instance numbers shuffled": Kind(damaged(phantom.in_order(phantom.shuffled)), 1),
    "no instance numbers": Kind(damaged(every(setting(InstanceNumber=None))), 1),
    "descending": Kind(damaged(lambda series: series[::-1]), 1),
    "missing slice": Kind(damaged(phantom.without_slice(5)), 0, (Code.MISSING_SLICE,)),
    "missing end": Kind(damaged(phantom.without_slice(11)), 1),
    "same slice twice": Kind(damaged(phantom.with_copy(5)), 1, (Code.DUPLICATE_DROPPED,)),
    "same pixels twice": Kind(
        damaged(phantom.with_copy(5, new_uid=True)), 1, (Code.DUPLICATE_DROPPED,)
    ),
    "one place, two images": Kind(
        damaged(phantom.with_copy(5, new_uid=True, new_pixels=True)),
        0,
        (Code.DUPLICATE_POSITION,),
    ),
    "one UID, two images": Kind(
        damaged(phantom.with_copy(5, new_pixels=True)), 0, (Code.DUPLICATE_POSITION,)
    ),
    "jitter of 2 um": Kind(damaged(jitter(0.002)), 1, misplaced=0.02),
    "two series": Kind(lambda: [*CT.datasets(), *OTHER.datasets()], 2),
    "two series, one UID": Kind(
        lambda: phantom.as_one_series(CT.datasets(), OTHER.datasets()), 0, (Code.SCATTERED_SLICES,)
    ),
    "two studies, one UID": Kind(
        lambda: phantom.as_one_series(CT.datasets(), Phantom(study="second").datasets()),
        2,
        (Code.SPLIT_BY_STUDY,),
    ),
    "two frames of reference": Kind(
        damaged(only(lambda number: number > 5, setting(FrameOfReferenceUID="2.25.7"))),
        2,
        (Code.SPLIT_BY_FRAME_OF_REFERENCE,),
    ),
    "scout in front": Kind(
        lambda: phantom.as_one_series(
            CT.datasets(), every(SCOUT)(Phantom("coronal", name="scout", slices=1).datasets())
        ),
        1,
        (Code.SPLIT_BY_KIND, Code.LOCALIZER),
    ),
    "three planes": Kind(planes, 3, (Code.SPLIT_BY_ORIENTATION,)),
    "one slice turned": Kind(
        damaged(only(lambda number: number == 5, rotated)),
        0,
        (Code.SPLIT_BY_ORIENTATION, Code.MISSING_SLICE, Code.TOO_FEW_SLICES),
    ),
    "one slice smaller": Kind(
        damaged(only(lambda number: number == 5, smaller)),
        0,
        (Code.SPLIT_BY_SIZE, Code.MISSING_SLICE),
    ),
    "half with other spacing": Kind(
        damaged(only(lambda number: number > 5, setting(PixelSpacing=[0.9, 0.6]))),
        2,
        (Code.SPLIT_BY_SPACING,),
    ),
    "time points": Kind(
        damaged(phantom.phases(3, TemporalPositionIdentifier=lambda phase: phase + 1), MR),
        3,
        (Code.SPLIT_BY_PHASE,),
    ),
    "two phases": Kind(
        damaged(phantom.phases(2, AcquisitionNumber=lambda phase: phase + 1)),
        2,
        (Code.SPLIT_BY_PHASE,),
    ),
    "echoes of magnitude and phase": Kind(
        lambda: phantom.phases(2, ImageType=lambda phase: ["ORIGINAL", "PRIMARY", "MP"[phase]])(
            phantom.phases(2, EchoTime=lambda phase: 10.0 * (phase + 1))(MR.datasets())
        ),
        4,
        (Code.SPLIT_BY_PHASE,),
    ),
    "phases that no tag tells apart": Kind(damaged(phantom.phases(2)), 0, (Code.MULTI_PHASE,)),
    "phases with a blurred tag": Kind(
        lambda: only(lambda number: number == 3, setting(AcquisitionNumber=2))(
            phantom.phases(2, AcquisitionNumber=lambda phase: phase + 1)(CT.datasets())
        ),
        0,
        (Code.MULTI_PHASE,),
    ),
    "all at one place": Kind(
        damaged(every(setting(ImagePositionPatient=[0, 0, 0]))), 0, (Code.SAME_POSITION,)
    ),
    "half of the pixels": Kind(
        damaged(only(lambda number: number == 5, half_pixels)), 0, (Code.TRUNCATED,)
    ),
    "one without pixels": Kind(
        damaged(only(lambda number: number == 11, setting(PixelData=None))), 0, (Code.TRUNCATED,)
    ),
    "no pixel spacing": Kind(damaged(every(setting(PixelSpacing=None))), 0, (Code.NO_GEOMETRY,)),
    "zero pixel spacing": Kind(
        damaged(every(setting(PixelSpacing=[0, 0]))), 0, (Code.NO_GEOMETRY,)
    ),
    "no orientation": Kind(
        damaged(every(setting(ImageOrientationPatient=None))), 0, (Code.NO_GEOMETRY,)
    ),
    "no position": Kind(damaged(every(setting(ImagePositionPatient=None))), 0, (Code.NO_GEOMETRY,)),
    "orientation askew": Kind(
        damaged(every(setting(ImageOrientationPatient=[1, 0, 0, 0.3, 0.95, 0]))),
        0,
        (Code.BAD_ORIENTATION,),
    ),
    "orientation of three digits": Kind(damaged(rounded(3), Phantom("oblique")), 1, misplaced=0.08),
    "no frame of reference": Kind(
        damaged(every(setting(FrameOfReferenceUID=None))), 1, (Code.NO_FRAME_OF_REFERENCE,)
    ),
    "no series UID": Kind(damaged(every(setting(SeriesInstanceUID=""))), 1, (Code.NO_SERIES_UID,)),
    "slice thickness is not the distance": Kind(damaged(every(setting(SliceThickness=5))), 1),
    "one slice": Kind(lambda: CT.datasets()[:1], 0, (Code.TOO_FEW_SLICES,)),
    "monochrome1": Kind(
        damaged(every(setting(PhotometricInterpretation="MONOCHROME1"))), 1, (Code.MONOCHROME1,)
    ),
    "no rescale": Kind(
        damaged(every(setting(RescaleSlope=None, RescaleIntercept=None))),
        1,
        (Code.RESCALE_MISSING,),
    ),
    "intercept from the second slice on": Kind(
        damaged(only(lambda number: number == 0, setting(RescaleIntercept=None))),
        0,
        (Code.RESCALE_INCOMPLETE,),
    ),
    "rescale slope of zero": Kind(
        damaged(only(lambda number: number == 3, setting(RescaleSlope=0))),
        0,
        (Code.RESCALE_UNUSABLE,),
    ),
    "lookup table": Kind(
        damaged(every(setting(ModalityLUTSequence=[lookup_table()]))), 0, (Code.RESCALE_UNUSABLE,)
    ),
    "padding": Kind(damaged(every(setting(PixelPaddingValue=0))), 1, (Code.PADDING_VALUE,)),
    "colour": Kind(damaged(every(colour)), 0, (Code.COLOUR,)),
    "mosaic": Kind(
        damaged(every(setting(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])), MR),
        0,
        (Code.MOSAIC,),
    ),
    "screen captures": Kind(
        damaged(every(setting(SOPClassUID=uid.SecondaryCaptureImageStorage))),
        0,
        (Code.NOT_AN_IMAGE_VOLUME,),
    ),
    "frames without functional groups": Kind(
        damaged(every(setting(NumberOfFrames=2, Rows=12))), 0, (Code.MULTI_FRAME,)
    ),
    "more bits stored than there are": Kind(
        damaged(every(setting(BitsStored=60_000))), 0, (Code.UNSUPPORTED_TRANSFER_SYNTAX,)
    ),
    "no bits at all": Kind(
        damaged(every(setting(BitsStored=0, BitsAllocated=0, PixelRepresentation=1))),
        0,
        (Code.UNSUPPORTED_TRANSFER_SYNTAX,),
    ),
    "one frame said explicitly": Kind(damaged(every(setting(NumberOfFrames=1))), 1),
}


def volumes_of(result):
    return [read_volume(ref) for ref in result.accepted]


def codes_of(result):
    return {finding.code for ref in result.series for finding in ref.findings}


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_is_exact_or_refused(name, tmp_path, misplacement):
    kind = KINDS[name]
    series = kind.build()
    phantom.write(series, tmp_path)
    result = scan(tmp_path)
    assert codes_of(result) >= set(kind.codes)
    refused = [ref for ref in result.series if not ref.accepted]
    assert all(ref.reason for ref in refused)
    volumes = volumes_of(result)
    assert len(volumes) == kind.volumes
    by_uid = {ds.SOPInstanceUID: ds for ds in series}
    for volume in volumes:
        assert misplacement(volume, [by_uid[name] for name in volume.sop_uids]) <= kind.misplaced
    read = [name for volume in volumes for name in volume.sop_uids]
    assert len(read) == len(set(read))


def test_keys_are_short_unique_and_do_not_depend_on_the_folder(tmp_path):
    for sub in "ab":
        phantom.write(planes(), tmp_path / sub)
    keys = [[ref.key for ref in scan(tmp_path / sub).series] for sub in "ab"]
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == 3
    assert all(len(key) == 14 for key in keys[0])


def test_a_scan_gives_the_same_whatever_the_files_are_called(tmp_path):
    everything = [*planes(), *CT.datasets(), *OTHER.datasets()]
    phantom.write(everything, tmp_path / "a")
    phantom.write(everything[::-1], tmp_path / "b", name=lambda n: f"{n * 7919 % 101}")
    first, second = (scan(tmp_path / sub).to_json() for sub in "ab")
    assert first == second


@pytest.mark.parametrize("shuffle", [False, True])
def test_an_enhanced_object_gives_the_volume_of_its_slices(shuffle, tmp_path, misplacement):
    source = Phantom("oblique")
    series = source.datasets()
    paths = phantom.write(series, tmp_path / "classic")
    files = [pydicom.dcmread(path) for path in paths]
    frames = [files[number] for number in phantom.shuffled(12)] if shuffle else files
    enhanced = LegacyConvertedEnhancedCTImage(frames, uid.UID("2.25.11"), 1, uid.UID("2.25.12"), 1)
    enhanced.save_as(tmp_path / "enhanced")
    (ref,) = scan(tmp_path / "enhanced").accepted
    volume = read_volume(ref)
    assert misplacement(volume, series) < 1e-3
    assert set(volume.sop_uids) == {"2.25.12"}


def test_gzipped_files_are_read_and_a_broken_one_is_named(tmp_path):
    for path in phantom.write(CT.datasets(), tmp_path):
        path.with_suffix(".dcm.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    (ref,) = scan(tmp_path).series
    assert [finding.code for finding in ref.findings] == [Code.COMPRESSED_FILE]
    np.testing.assert_array_equal(read_volume(ref).array, CT.truth.array)
    phantom.cut_file(tmp_path / "0011.dcm.gz", 0.5)
    result = scan(tmp_path)
    assert [other.finding.code for other in result.others] == [Code.UNREADABLE]
    assert [ref.refusal.code for ref in result.series] == [Code.UNREADABLE_MEMBER]


@pytest.mark.parametrize("name", ["{:04d}.dcm".format, "IM{:04d}".format])
@pytest.mark.parametrize("keep", [0, 0.05, 0.3, 0.6, 0.97])
def test_a_series_with_a_file_cut_anywhere_is_put_aside(keep, name, tmp_path):
    """The last slice is the worst: without it the others are still a perfect volume."""
    paths = phantom.write(CT.datasets(), tmp_path, name=name)
    phantom.cut_file(paths[-1], keep)
    refs = scan(tmp_path).series
    assert all(ref.refusal for ref in refs)
    assert {ref.refusal.code for ref in refs} <= {Code.TRUNCATED, Code.UNREADABLE_MEMBER}


def test_every_cut_of_a_slice_is_noticed(tmp_path):
    series = Phantom(columns=4, rows=3, slices=4).datasets()
    paths = phantom.write(series, tmp_path)
    whole = paths[-1].read_bytes()
    for length in range(0, len(whole), 29):
        paths[-1].write_bytes(whole[:length])
        found = codes_of(scan(tmp_path))
        assert found & {Code.TRUNCATED, Code.UNREADABLE_MEMBER}, length


def test_a_slice_overwritten_with_zeros_puts_its_series_aside(tmp_path):
    paths = phantom.write(CT.datasets(), tmp_path)
    paths[-1].write_bytes(bytes(paths[-1].stat().st_size))
    (ref,) = scan(tmp_path).series
    assert ref.refusal.code is Code.UNREADABLE_MEMBER


def test_a_damaged_file_among_several_series_is_a_warning_for_each(tmp_path):
    paths = phantom.write([*CT.datasets(), *OTHER.datasets(), *MR.datasets()[:1]], tmp_path)
    phantom.cut_file(paths[-1], 0.2)
    refs = scan(tmp_path).series
    assert [ref.accepted for ref in refs] == [True, True]
    assert all(ref.findings[0].code is Code.UNREADABLE_NEIGHBOUR for ref in refs)


def test_notes_beside_a_series_do_no_harm(tmp_path):
    phantom.write(CT.datasets(), tmp_path, name="IM{:04d}".format)
    (tmp_path / "README").write_text("A note of more than a hundred and thirty characters. " * 5)
    (tmp_path / "notes.txt").write_text("short")
    (ref,) = scan(tmp_path).series
    assert not ref.findings


@pytest.mark.parametrize("syntax", [uid.RLELossless, uid.JPEGLSLossless])
def test_compressed_pixels_that_end_early_are_refused(syntax, tmp_path):
    paths = phantom.write(CT.datasets(), tmp_path, syntax=syntax)
    phantom.cut_file(paths[4], 0.95)
    (ref,) = scan(tmp_path).series
    assert ref.refusal is not None
    assert ref.refusal.code is Code.TRUNCATED


def test_an_unknown_compression_is_refused_before_its_pixels_are_touched(tmp_path):
    content = [path.read_bytes() for path in phantom.write(CT.datasets(), tmp_path)]
    for number, data in enumerate(content):
        known, unknown = b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0"
        (tmp_path / f"{number:04d}.dcm").write_bytes(data.replace(known, unknown, 1))
    assert Code.UNSUPPORTED_TRANSFER_SYNTAX in codes_of(scan(tmp_path))


def test_headers_that_lie_about_their_size_are_refused(tmp_path):
    change = setting(Rows=65535, Columns=65535)
    paths = phantom.write(
        every(change)(Phantom(columns=32, rows=32, slices=4).datasets()), tmp_path
    )
    assert len(paths) == 4
    assert codes_of(scan(tmp_path)) >= {Code.TRUNCATED, Code.TOO_LARGE}


def test_files_that_are_no_series_are_named(tmp_path):
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / "empty").touch()
    (tmp_path / "brain.hdr").write_bytes(bytes(348))
    (tmp_path / "broken.nii").write_bytes(bytes(10))
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe.dcm")
    report = setting(SOPClassUID=uid.EnhancedSRStorage, Modality="SR", PixelData=None, Rows=None)
    phantom.write(every(report)(CT.datasets()[:1]), tmp_path, name="report{}".format)
    index = setting(SOPClassUID=uid.MediaStorageDirectoryStorage)
    phantom.write(every(index)(CT.datasets()[:1]), tmp_path, name="DICOMDIR{}".format)
    result = scan(tmp_path)
    assert {other.path.name: other.finding.code for other in result.others} == {
        "readme.txt": Code.NOT_AN_IMAGE_FILE,
        "empty": Code.NOT_AN_IMAGE_FILE,
        "brain.hdr": Code.ANALYZE,
        "nowhere": Code.UNREADABLE,
        "pipe.dcm": Code.NOT_A_REGULAR_FILE,
        "report0": Code.NO_PIXELS,
        "DICOMDIR0": Code.DICOMDIR,
    }
    assert [(ref.kind, ref.findings[0].code) for ref in result.series] == [
        ("nifti", Code.WRONG_CONTENT)
    ]


def test_a_socket_is_stepped_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket may have 108 bytes only
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        (other,) = scan(tmp_path).others
    assert other.finding.code is Code.NOT_A_REGULAR_FILE


def test_what_may_not_be_read_is_named(tmp_path, monkeypatch):
    phantom.write(CT.datasets(), tmp_path / "allowed")
    phantom.write(OTHER.datasets(), tmp_path / "locked")
    real = os.scandir

    def scandir(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    result = scan(tmp_path)
    assert [other.finding.code for other in result.others] == [Code.UNREADABLE]
    assert len(result.accepted) == 1


def test_links_in_a_circle_end(tmp_path):
    phantom.write(CT.datasets(), tmp_path / "a")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (ref,) = scan(tmp_path).series
    assert len(ref.files) == 12


def test_several_roots_and_progress(tmp_path):
    phantom.write(CT.datasets(), tmp_path / "a")
    phantom.write(OTHER.datasets(), tmp_path / "b")
    seen = []
    result = scan([tmp_path / "a", tmp_path / "b"], on_file=seen.append)
    assert len(result.series) == 2
    assert seen == list(range(1, 25))
