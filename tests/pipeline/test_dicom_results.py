"""``nestseg segment --dicom``: SEG and SR beside the NIfTI mask, whole or not at all."""

import errno
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from highdicom.sr import srread
from pydicom.sequence import Sequence

from nestseg.batch.manner import Manner
from nestseg.bundle import locate
from nestseg.cli.segment import run as segment
from nestseg.outputs.dicom import results
from nestseg.outputs.dicom.encoding import Encoding
from nestseg.outputs.dicom.read import read_seg
from nestseg.outputs.dicom.results import write_results
from nestseg.outputs.dicom.source import read_source
from nestseg.outputs.dicom.sr import volumes_of
from nestseg_prep import phantom
from nestseg_prep.dicom.scan import scan
from nestseg_prep.errors import InputError
from nestseg_prep.phantom import Phantom
from nestseg_prep.reading import read_volume
from nestseg_prep.volume import Volume

from .conftest import MR_CROP
from .dicom_help import ALGORITHM, NAMES, dicom_errors, random_labels

BUNDLE = "hippocampus_unetpp"
HERE = Manner(workers=0)  # no process to wait for
VOLUMES = {"anterior hippocampus": 2.125, "posterior hippocampus": 1.5, "left kidney": 0.0}


def one_case(folder: Path, series=None):
    """A series on disk, and a mask on the grid of its volume."""
    phantom.write(series or Phantom().datasets(), folder)
    (ref,) = scan(folder).accepted
    image = read_volume(ref)
    labels = random_labels(image.shape)
    return ref, Volume(labels, image.affine, image.series_uid, image.sop_uids, image.source)


def nestseg(*arguments: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "nestseg.cli", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("damage", ["clean", "tilted", "uneven"])
def test_seg_and_sr_hold_the_mask_and_its_volumes(damage, tmp_path):
    change = {"tilted": phantom.tilted(15), "uneven": phantom.uneven()}.get(damage, list)
    ref, mask = one_case(tmp_path / "in", change(Phantom().datasets()))
    files = write_results([mask], ref, VOLUMES, NAMES, ALGORITHM, tmp_path / "case")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["case_seg.dcm", "case_sr.dcm", "in"]
    source = read_source(ref)
    labels = read_seg(files.seg).labels_on(source)
    np.testing.assert_array_equal(labels, ref.source.take(mask.array))
    report = pydicom.dcmread(files.sr)
    assert volumes_of(report) == {1: 2.125, 2: 1.5, 3: 0.0}
    assert dicom_errors(files.seg) == []
    assert dicom_errors(files.sr) == []


def test_the_report_names_its_segments_images_and_algorithm(tmp_path):
    ref, mask = one_case(tmp_path / "in", Phantom(modality="MR").datasets())
    files = write_results([mask], ref, VOLUMES, NAMES, ALGORITHM, tmp_path / "case")
    seg = pydicom.dcmread(files.seg)
    report = srread(files.sr)
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert [group.tracking_identifier for group in groups] == list(NAMES.values())
    for group, described in zip(groups, seg.SegmentSequence, strict=True):
        assert group.tracking_uid == described.TrackingUID
        assert group.referenced_segment.referenced_sop_instance_uid == seg.SOPInstanceUID
        assert group.finding_type.value == described.SegmentedPropertyTypeCodeSequence[0].CodeValue
        (volume,) = group.get_measurements()
        assert volume.unit.value == "mL"
    (evidence,) = report.CurrentRequestedProcedureEvidenceSequence
    named = {
        item.ReferencedSOPInstanceUID
        for series in evidence.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert named == {seg.SOPInstanceUID, *(one.sop_uid for one in ref.slices)}
    assert ALGORITHM.weights_sha256 in str(report)
    assert report.VerificationFlag == "UNVERIFIED"
    assert str(report.PatientName) == "Phantom^Nest"


def test_the_same_result_is_the_same_object_and_another_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1770000000")
    ref, mask = one_case(tmp_path / "in", Phantom(modality="MR").datasets())
    for encoding in Encoding:
        first, again = (
            write_results([mask], ref, VOLUMES, NAMES, ALGORITHM, tmp_path / name, encoding)
            for name in (f"{encoding}1", f"{encoding}2")
        )
        assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
        assert pydicom.dcmread(first.seg).ContentDate == "20260202"
    changed = mask.array.copy()
    changed[0, 0, 0] = 1 - min(changed[0, 0, 0], 1)
    other = replace(mask, array=changed)
    third = write_results([other], ref, VOLUMES, NAMES, ALGORITHM, tmp_path / "other", encoding)
    for path, other_path in zip(first, third, strict=True):
        one, two = pydicom.dcmread(path), pydicom.dcmread(other_path)
        assert one.SOPInstanceUID != two.SOPInstanceUID
        assert one.SeriesInstanceUID != two.SeriesInstanceUID


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    ref, mask = one_case(tmp_path / "in")
    written = results._save

    def full(dataset, path):
        written(dataset, path)
        if "sr" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(results, "_save", full)
    with pytest.raises(OSError, match="No space left"):
        write_results([mask], ref, VOLUMES, NAMES, ALGORITHM, tmp_path / "case")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_what_reads_back_differently_is_never_given_its_name(tmp_path, monkeypatch):
    ref, mask = one_case(tmp_path / "in")
    written = results._save

    def flipped(dataset, path):
        if "PixelData" in dataset:
            pixels = bytearray(dataset.PixelData)
            pixels[40] ^= 1
            dataset.PixelData = bytes(pixels)
        written(dataset, path)

    monkeypatch.setattr(results, "_save", flipped)
    with pytest.raises(InputError, match="reads back differently"):
        write_results([mask], ref, VOLUMES, NAMES, ALGORITHM, tmp_path / "case")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_series_that_cannot_be_referred_to_is_refused_in_one_line(tmp_path):
    ref, mask = one_case(
        tmp_path / "in", phantom.every(phantom.setting(StudyInstanceUID=None))(Phantom().datasets())
    )
    with pytest.raises(InputError, match="lacks a UID"):
        write_results([mask], ref, VOLUMES, NAMES, ALGORITHM, tmp_path / "case")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_files_that_changed_since_the_scan_are_refused_in_one_line(tmp_path):
    ref, mask = one_case(tmp_path / "in")
    ref.files[3].unlink()
    with pytest.raises(InputError, match="scan again"):
        write_results([mask], ref, VOLUMES, NAMES, ALGORITHM, tmp_path / "case")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_the_command_writes_dicom_for_dicom_and_says_so_for_nifti(mr_series, tmp_path, capfd):
    values = np.random.default_rng(0).random((40, 40, 40), np.float32)
    image = nib.Nifti1Image(values, np.eye(4))
    image.set_qform(np.eye(4), code=1)
    image.set_sform(np.eye(4), code=1)
    nib.save(image, mr_series / "crop.nii.gz")
    out = tmp_path / "out"
    assert segment([mr_series], BUNDLE, out, dicom=Encoding.LABELMAP, manner=HERE) == 0
    assert "1 files have no DICOM source" in capfd.readouterr().out
    record = json.loads((out / "run.json").read_text())
    (plain,) = [case for case in record["cases"] if case["kind"] == "nifti"]
    (case,) = [case for case in record["cases"] if case["kind"] == "dicom"]
    assert plain["dicom"] is None
    seg, sr = (out / name for name in case["dicom"])
    (ref,) = [ref for ref in scan(mr_series).series if ref.kind == "dicom"]
    found = read_seg(seg)
    assert found.kind == "LABELMAP"
    nifti = np.asarray(nib.load(out / case["mask"]).dataobj)
    np.testing.assert_array_equal(found.labels_on(read_source(ref)), ref.source.take(nifti))
    assert volumes_of(pydicom.dcmread(sr)) == {
        number: case["volumes_ml"][name] for number, name in found.names.items()
    }
    digest = record["bundle"]["weights_sha256"]
    assert all(digest.encode() in path.read_bytes() for path in (seg, sr))


# --- What stands in the headers about a patient -----------------------------------------------

PLANTED = {
    "PatientName": "QX01^PLANT",
    "PatientID": "QX02PLANT",
    "OtherPatientNames": "QX03^PLANT",
    "PatientComments": "QX04PLANT",
    "ReferringPhysicianName": "QX05",
    "OperatorsName": "QX06^PLANT",
    "InstitutionName": "QX07PLANT",
    "StationName": "QX08PLANT",
    "StudyDescription": "QX09PLANT",
    "SeriesDescription": "QX10PLANT",
    "ProtocolName": "QX11PLANT",
    "ImageComments": "QX12PLANT",
    "AccessionNumber": "QX13PLANT",
    "StudyID": "QX14PLANT",
    "PatientBirthDate": "QX15PLANT",  # breaks its own rules, as do the next two
    "PatientSex": "QX16PLANT",
    "PatientAge": "QX17PLANT",
}


def planted(ds):
    """Eighteen texts: in plain tags, in one that is nested, in a private one, in broken ones."""
    phantom.setting(**PLANTED)(ds)
    nested = pydicom.Dataset()
    nested.PatientName = "QX18^PLANT"
    ds.RequestAttributesSequence = Sequence([nested])
    ds.private_block(0x0099, "NESTSEG QX18", create=True).add_new(1, "LO", "QX18PLANT")


def test_nothing_but_the_dicom_objects_names_the_patient(tmp_path):
    root = tmp_path / "QX00PLANT"
    good = phantom.every(planted)(MR_CROP.datasets())
    odd = phantom.every(planted)(Phantom(**vars(MR_CROP) | {"name": "odd"}).datasets())
    for ds in odd:
        del ds.StudyInstanceUID  # fits the bundle, and no DICOM object can refer to it
    broken = phantom.every(planted)(Phantom(**vars(MR_CROP) | {"name": "cut"}).datasets())
    torn = phantom.every(planted)(Phantom(**vars(MR_CROP) | {"name": "torn"}).datasets())
    for ds in torn:
        ds.BitsStored = 12  # below a HighBit of 15: only the pixels show that they do not lie there
    named = {"good": good, "odd": odd, "torn": torn, "broken": broken}
    for name, series in named.items():
        paths = phantom.write(series, root / name, name="QX00PLANT{}".format)
    # Whole for the scan, and without pixels that can be decoded.
    for path in paths:
        ds = pydicom.dcmread(path)
        ds.BitsStored = 40
        ds.save_as(path)
    out = tmp_path / "out"
    done = nestseg("segment", root, "--bundle", BUNDLE, "--out", out, "--dicom")
    record = json.loads((out / "run.json").read_text())
    assert sorted(case["state"] for case in record["cases"]) == ["done", "done", "failed"]
    texts = [done.stdout, done.stderr, json.dumps(record)]
    for path in out.iterdir():
        texts.append(path.name)
        if path.suffix != ".dcm":
            texts.append(path.read_bytes().decode("latin-1"))
    planted_text = r"(?<![A-Za-z0-9+/])QX\d\d|PLANT"  # "QX82" stands in the viewer's base64 too
    assert not [text for text in texts if re.search(planted_text, text)]
    # The patient module of DICOM objects is that of their source: else no archive files them.
    (seg,) = out.glob("*_seg.dcm")
    assert str(pydicom.dcmread(seg).PatientName) == "QX01^PLANT"
    assert b"QX18" not in seg.read_bytes()


def test_a_bundle_of_its_own_may_say_what_its_labels_are_in_codes(mr_series, tmp_path):
    bundle = tmp_path / BUNDLE
    shutil.copytree(locate.find(BUNDLE), bundle)
    path = bundle / "configs" / "metadata.json"
    metadata = json.loads(path.read_text())
    code = ["4958002", "SCT", "Amygdala"]
    metadata["segment_codes"] = {"anterior hippocampus": {"category": code, "type": code}}
    path.write_text(json.dumps(metadata))
    out = tmp_path / "out"
    assert segment([mr_series], str(bundle), out, dicom=Encoding.BINARY, manner=HERE) == 0
    (seg,) = out.glob("*_seg.dcm")
    assert [segment.type.meaning for segment in read_seg(seg).segments] == [
        "Amygdala",
        "Hippocampus",
    ]
