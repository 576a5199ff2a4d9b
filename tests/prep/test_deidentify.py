"""Files without their patient: nothing planted is left, geometry and references are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    EncapsulatedPDFStorage,
    EnhancedSRStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from nestseg_prep import keep_list, phantom
from nestseg_prep.deidentify import Doubt, DoubtError, deidentify_file, folder_for, new_uid
from nestseg_prep.dicom import terms
from nestseg_prep.dicom.files import NotDicomError
from nestseg_prep.dicom.scan import scan
from nestseg_prep.phantom import Phantom
from nestseg_prep.phantom.changes import garbage_above_bit_12, padded, pet_slopes
from nestseg_prep.phantom.enhanced import as_enhanced
from nestseg_prep.reading import read_volume
from nestseg_prep.site_key import pseudonym
from nestseg_prep.volume import Volume

MARK = "MARKER"
SMALL = Phantom(columns=16, rows=12, slices=4)


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


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_a_file_that_was_done_before_stays_byte_for_byte(tmp_path: Path, syntax: UID) -> None:
    series = planted(Phantom(slices=2).datasets())
    for ds in series:
        ds.ConvolutionKernel, ds.ContrastBolusAgent = f"{MARK} kernel", f"{MARK} agent"
    phantom.write(series, tmp_path / "in", syntax=syntax)
    first = deidentified(tmp_path / "in", tmp_path / "out")
    second = deidentified(tmp_path / "out", tmp_path / "again")
    assert [path.name for path in first] == [path.name for path in second]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_a_file_that_says_it_was_done_is_not_believed(tmp_path: Path) -> None:
    (source,) = phantom.write(Phantom(slices=1).datasets(), tmp_path / "in")
    done = deidentify_file(source, folder_for(tmp_path / "out")).path
    ds = dcmread(done)
    before = ds.PatientName, ds.PatientID, ds.SOPInstanceUID
    ds.PatientName, ds.PatientComments = f"{MARK}^AGAIN", f"{MARK} comment"
    ds.save_as(done)
    again = deidentify_file(done, folder_for(tmp_path / "again")).path
    assert MARK.encode() not in again.read_bytes()
    ds = dcmread(again)
    assert (ds.PatientName, ds.PatientID, ds.SOPInstanceUID) == before


@pytest.mark.parametrize(
    ("change", "doubt", "checked"),
    [
        ({"BurnedInAnnotation": "YES"}, Doubt.BURNT_IN, True),
        ({"RecognizableVisualFeatures": "YES"}, Doubt.FEATURES, True),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, Doubt.SCREEN, True),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, Doubt.SCREEN, True),
        ({"SamplesPerPixel": 3}, Doubt.SCREEN, False),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, Doubt.SCREEN, True),
        ({"ModalityLUTSequence": [Dataset()]}, Doubt.TABLE, False),
        ({"NumberOfFrames": 2}, Doubt.UNREADABLE, False),
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


@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_a_marker_in_every_text_attribute_at_three_depths_is_gone(
    tmp_path: Path, kind: str
) -> None:
    series = Phantom(slices=3).datasets()
    series = [as_enhanced(series)] if kind == "enhanced" else series[:1]
    (source,) = phantom.write(phantom.marked_everywhere("ZZMARK")(series), tmp_path / "in")
    assert source.read_bytes().count(b"ZZMARK") > 7000
    done = deidentify_file(source, folder_for(tmp_path / "out")).path
    assert b"ZZMARK" not in done.read_bytes()
    allowed = {*keep_list.NUMBERS, *keep_list.UIDS, *keep_list.POINTERS, *keep_list.SEQUENCES}
    allowed |= {*keep_list.TERMS, *keep_list.TOKENS, *keep_list.SAID, *keep_list.EMPTY}
    allowed |= {*keep_list.CODE, *keep_list.DUMMIES, *keep_list.DONE}
    found = {element.keyword for element in dcmread(done).iterall()}
    assert found <= allowed | {"PixelData"}


def as_pet(series: phantom.Series) -> phantom.Series:
    rescaled = pet_slopes(series)
    for number, ds in enumerate(rescaled):
        ds.Units, ds.DecayCorrection, ds.FrameReferenceTime = "BQML", "START", 500 * number
    return rescaled


def two_times(series: phantom.Series) -> phantom.Series:
    return phantom.phases(2, TemporalPositionIdentifier=lambda phase: phase + 1)(series)


def with_padding(series: phantom.Series) -> phantom.Series:
    return phantom.every(padded)(series)


def with_garbage(series: phantom.Series) -> phantom.Series:
    return phantom.every(garbage_above_bit_12)(series)


@pytest.mark.parametrize(
    ("source", "change"),
    [
        (SMALL, list),
        (replace(SMALL, plane="oblique", modality="MR"), list),
        (SMALL, as_pet),
        (SMALL, with_garbage),
        (SMALL, with_padding),
        (SMALL, lambda series: [as_enhanced(series, phantom.shuffled(4))]),
        (replace(SMALL, modality="MR"), lambda series: [as_enhanced(two_times(series))]),
        (SMALL, phantom.phases(2, ImageType=lambda phase: ["ORIGINAL", "PRIMARY", f"X {phase}"])),
    ],
)
def test_a_scan_finds_the_same_volumes_as_before(
    tmp_path: Path, source: Phantom, change: Callable[[phantom.Series], phantom.Series]
) -> None:
    phantom.write(change(planted(source.datasets())), tmp_path / "in")
    before = volumes(tmp_path / "in")
    deidentified(tmp_path / "in", tmp_path / "out")
    after = volumes(tmp_path / "out")
    assert len(before) == len(after) > 0
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one.array, other.array)
        np.testing.assert_array_equal(one.affine, other.affine)


def volumes(folder: Path) -> list[Volume]:
    """The accepted volumes below a folder, in an order that their names do not decide."""
    read = [read_volume(ref) for ref in scan(folder).accepted]
    return sorted(
        read, key=lambda volume: (volume.affine[:3].tolist(), volume.array.ravel().tolist())
    )


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless, JPEGLSLossless, JPEGLosslessSV1],
)
def test_every_transfer_syntax_keeps_its_values(tmp_path: Path, syntax: UID) -> None:
    series = with_padding(Phantom(slices=4).datasets())
    if syntax == JPEGLosslessSV1:
        series = [phantom.jpeg_lossless(ds) for ds in Phantom(slices=4).datasets()]
    phantom.write(series, tmp_path / "in", syntax=syntax)
    deidentified(tmp_path / "in", tmp_path / "out")
    (before,), (after,) = scan(tmp_path / "in").accepted, scan(tmp_path / "out").accepted
    np.testing.assert_array_equal(read_volume(before).array, read_volume(after).array)
    assert [one.padding for one in before.slices] == [one.padding for one in after.slices]


def test_bits_beside_the_stored_ones_are_cleared(tmp_path: Path) -> None:
    """An overlay may lie in them (PS3.5 8.1.2), and anything behind the last pixel."""
    (ds,) = Phantom(slices=1, columns=16, rows=16).datasets()
    values = phantom.get_pixels(ds) & 0x3FF
    for top, shift in ((9, 0), (13, 4)):
        ds.BitsStored, ds.HighBit = 10, top
        phantom.set_pixels(ds, values << shift | ~(0x3FF << shift) & 0xFFFF)
        ds.PixelData += MARK.encode()
        ds.add_new(0x60000102, "US", 15)
        (source,) = phantom.write([ds], tmp_path / f"in{top}")
        done = dcmread(deidentify_file(source, folder_for(tmp_path / f"out{top}")).path)
        np.testing.assert_array_equal(phantom.get_pixels(done), values)
        assert (done.BitsStored, done.HighBit, len(done.PixelData)) == (10, 9, values.nbytes)
        assert 0x60000102 not in done


def test_negative_values_stay_negative(tmp_path: Path) -> None:
    (ds,) = Phantom(slices=1).datasets()
    values = phantom.get_pixels(ds).astype(int) % 4096 - 2048
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, 1
    phantom.set_pixels(ds, values & 0x0FFF)
    (source,) = phantom.write([ds], tmp_path / "in")
    done = dcmread(deidentify_file(source, folder_for(tmp_path / "out")).path)
    np.testing.assert_array_equal(phantom.get_pixels(done), values)


@given(text=st.text(), purpose=st.sampled_from(["patient", "token"]))
def test_pseudonyms_stand_for_themselves(text: str, purpose: str) -> None:
    made = pseudonym(text, purpose=purpose, length=24)
    assert made == pseudonym(made, purpose=purpose, length=24) != text
    assert pseudonym(text + "x", purpose=purpose, length=24) != made


@given(
    uid=st.from_regex(
        r"(1\.3\.12|2\.25|1\.2\.840\.10008)(\.(0|[1-9][0-9]{0,9})){1,4}", fullmatch=True
    )
)
def test_only_uids_of_the_standard_and_of_this_site_stay(uid: str) -> None:
    made = new_uid(uid)
    assert made == new_uid(made)
    assert made.is_valid
    assert (made == uid) == bool(UID(uid).type)


def test_a_patients_number_is_of_the_hospital_that_gave_it(tmp_path: Path) -> None:
    given = {}
    for issuer in ("", "NORTH", "SOUTH"):
        ds = phantom.every(phantom.setting(PatientID="17", IssuerOfPatientID=issuer))
        (source,) = phantom.write(ds(Phantom(slices=1).datasets()), tmp_path / f"in{issuer}")
        given[issuer] = dcmread(deidentify_file(source, folder_for(tmp_path / issuer)).path)
    assert len({ds.PatientID for ds in given.values()}) == 3


def test_what_scanners_write_of_a_body_part_becomes_a_defined_term() -> None:
    spelt = {"Chest w contrast": "CHEST", "HEAD/NECK": "HEADNECK", "Abd Pel": "ABDOMENPELVIS"}
    spelt |= {"": "", " ": "", "Miller": "OTHER", "KNEE": "KNEE", "Kopf": "HEAD"}
    assert {text: terms.body_part(text) for text in spelt} == spelt
