"""Files without their patient: nothing planted is left, geometry and references are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    EncapsulatedPDFStorage,
    EnhancedSRStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from nestseg_prep import phantom
from nestseg_prep.deidentify import Doubt, DoubtError, deidentify_file, folder_for, new_uid
from nestseg_prep.dicom.files import NotDicomError
from nestseg_prep.dicom.scan import scan
from nestseg_prep.phantom import Phantom
from nestseg_prep.reading import read_volume

pytest.importorskip("dicomanonymizer", reason="de-identification needs the extra `deidentify`")

MARK = "MARKER"


def item(**values: object) -> Dataset:
    made = Dataset()
    for name, value in values.items():
        setattr(made, name, value)
    return made


def planted(series: phantom.Series) -> phantom.Series:
    """Patient text in every kind of place: free texts, sequences, private blocks, unknown tags."""
    marked = phantom.with_marker(MARK)(series)
    for ds in marked:
        ds.PatientBirthDate = "19501231"
        ds.PatientAddress = f"{MARK} street"
        ds.DeviceSerialNumber = f"{MARK}17"
        ds.RequestAttributesSequence = [
            item(ScheduledProcedureStepDescription=f"{MARK} request", ReasonForVisit=f"{MARK} why")
        ]
        ds.DerivationCodeSequence = [
            item(CodeValue="1", PatientName=f"{MARK}^NESTED", OperatorsName=f"{MARK}^DEEP")
        ]
        ds.ReferencedImageSequence = [
            item(ReferencedSOPClassUID=ds.SOPClassUID, ReferencedSOPInstanceUID=ds.SOPInstanceUID)
        ]
        block = ds.private_block(0x0029, f"{MARK} MAKER", create=True)
        block.add_new(0x10, "LO", f"{MARK} private")
        ds.add_new(0x60004000, "LT", f"{MARK} overlay comment")
        ds.add_new(0x00081199 + 0x7000, "LO", f"{MARK} unknown to the standard")
    return marked


def deidentified(source: Path, out: Path, **options: bool) -> list[Path]:
    return [
        deidentify_file(path, folder_for(out), **options).path
        for path in sorted(source.rglob("*"))
        if path.is_file()
    ]


def test_nothing_planted_is_left_in_bytes_or_names(tmp_path: Path) -> None:
    series = planted(Phantom().datasets())
    before = {str(ds.SOPInstanceUID) for ds in series} | {str(series[0].StudyInstanceUID)}
    phantom.write(series, tmp_path / MARK)
    assert MARK.encode() in next((tmp_path / MARK).iterdir()).read_bytes()
    for path in deidentified(tmp_path / MARK, tmp_path / "out"):
        content = path.read_bytes()
        assert MARK.encode() not in content
        assert b"19501231" not in content
        assert not any(uid.encode() in content for uid in before)
        assert MARK not in str(path.relative_to(tmp_path))


def test_what_was_done_is_said_as_the_standard_wants_it(tmp_path: Path) -> None:
    phantom.write(planted(Phantom().datasets()), tmp_path / "in")
    ds = dcmread(deidentified(tmp_path / "in", tmp_path / "out")[0])
    assert ds.PatientIdentityRemoved == "YES"
    assert ds.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
    assert ds.LongitudinalTemporalInformationModified == "REMOVED"
    assert ds.PatientName == ds.PatientID
    assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
    assert ds.ReferencedImageSequence[0].ReferencedSOPInstanceUID == ds.SOPInstanceUID
    assert ds.ReferencedImageSequence[0].ReferencedSOPClassUID == ds.SOPClassUID


def test_voxels_and_their_places_stay(tmp_path: Path) -> None:
    phantom.write(planted(Phantom(plane="oblique").datasets()), tmp_path / "in")
    (before,) = scan(tmp_path / "in").series
    deidentified(tmp_path / "in", tmp_path / "out")
    (after,) = scan(tmp_path / "out").series
    assert after.accepted
    np.testing.assert_array_equal(read_volume(after).array, read_volume(before).array)
    np.testing.assert_array_equal(read_volume(after).affine, read_volume(before).affine)
    assert after.series_uid == new_uid(before.series_uid)


def test_uids_and_pseudonyms_are_the_same_in_every_run_and_follow_the_patient(
    tmp_path: Path,
) -> None:
    named = phantom.every(phantom.setting(PatientID="4711"))
    phantom.write(named(Phantom(name="a", study="one").datasets()), tmp_path / "in" / "a")
    phantom.write(named(Phantom(name="b", study="two").datasets()), tmp_path / "in" / "b")
    first, second = (deidentified(tmp_path / "in", tmp_path / name) for name in ("out", "again"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert len({dcmread(path).PatientID for path in first}) == 1
    assert len({dcmread(path).StudyInstanceUID for path in first}) == 2


def test_a_file_that_was_done_before_is_copied_as_it_is(tmp_path: Path) -> None:
    phantom.write(Phantom().datasets(), tmp_path / "in")
    first = deidentified(tmp_path / "in", tmp_path / "out")
    second = deidentified(tmp_path / "out", tmp_path / "again")
    uids = [{dcmread(path).SOPInstanceUID for path in paths} for paths in (first, second)]
    assert uids[0] == uids[1]


@pytest.mark.parametrize(
    ("change", "doubt", "checked"),
    [
        ({"BurnedInAnnotation": "YES"}, Doubt.BURNT_IN, True),
        ({"RecognizableVisualFeatures": "YES"}, Doubt.FEATURES, True),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, Doubt.SCREEN, True),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, Doubt.SCREEN, True),
        ({"SamplesPerPixel": 3}, Doubt.SCREEN, True),
        ({"SOPClassUID": EncapsulatedPDFStorage, "PixelData": None}, Doubt.NO_IMAGE, False),
        ({"SOPClassUID": EnhancedSRStorage, "PixelData": None}, Doubt.NO_IMAGE, False),
    ],
)
def test_what_may_show_a_name_is_refused_until_somebody_looked(
    tmp_path: Path, change: dict[str, object], doubt: Doubt, checked: bool
) -> None:
    (path,) = phantom.write(Phantom(slices=1).datasets(), tmp_path / "in")
    ds = dcmread(path)
    for name, value in change.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    ds.save_as(path)
    with pytest.raises(DoubtError) as caught:
        deidentified(tmp_path / "in", tmp_path / "out")
    assert caught.value.doubt is doubt
    assert not (tmp_path / "out").exists()
    if checked:
        assert deidentified(tmp_path / "in", tmp_path / "out", pixels_checked=True)


def test_a_head_is_pointed_out(tmp_path: Path) -> None:
    for part, face in (("BRAIN", True), ("", True), ("ABDOMEN", False)):
        named = phantom.every(phantom.setting(BodyPartExamined=part))
        (path,) = phantom.write(named(Phantom(slices=1, name=part).datasets()), tmp_path / part)
        assert deidentify_file(path, folder_for(tmp_path / "out")).may_show_face is face


def test_damaged_files_and_others_leave_nothing_behind(tmp_path: Path) -> None:
    (path,) = phantom.write(Phantom(slices=1).datasets(), tmp_path / "in")
    other = tmp_path / "notes.txt"
    other.write_text("no image at all, but longer than a preamble would be " * 5)
    with pytest.raises(NotDicomError):
        deidentify_file(other, folder_for(tmp_path / "out"))
    phantom.cut_file(path, 0.3)
    with pytest.raises(DoubtError):
        deidentify_file(path, folder_for(tmp_path / "out"))
    assert not list((tmp_path / "out").rglob("*.dcm"))


def test_uids_of_the_standard_stay_and_others_become_valid_new_ones() -> None:
    assert new_uid("1.2.840.10008.5.1.4.1.1.2") == "1.2.840.10008.5.1.4.1.1.2"
    uids = {new_uid(generate_uid()) for _ in range(200)}
    assert len(uids) == 200
    assert all(uid.is_valid and uid.startswith("2.25.") for uid in uids)
