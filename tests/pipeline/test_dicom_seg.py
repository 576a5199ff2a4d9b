"""Masks → DICOM SEG → the same masks, on exactly the source slices."""

import highdicom
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.pixels import pixel_array

from nestseg.outputs.dicom.encoding import Encoding
from nestseg.outputs.dicom.read import read_seg
from nestseg.outputs.dicom.seg import label_seg, probability_seg
from nestseg.outputs.dicom.source import read_source
from nestseg_prep import phantom
from nestseg_prep.dicom.scan import scan
from nestseg_prep.errors import InputError
from nestseg_prep.phantom import PLANES, Phantom

from .dicom_help import (
    ALGORITHM,
    NAMES,
    dicom_errors,
    enhanced_source,
    phantom_source,
    random_labels,
    source_in,
)

encodings = pytest.mark.parametrize("encoding", Encoding)


def lps_of(position, orientation, spacing, row, column):
    """PS3.3 C.7.6.2.1.1, written from the standard alone."""
    cosines = np.array(orientation, dtype=float)
    step = cosines[:3] * float(spacing[1]) * column + cosines[3:] * float(spacing[0]) * row
    return np.array(position, dtype=float) + step


@encodings
@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("plane", PLANES)
def test_a_label_map_comes_back_voxel_for_voxel(modality, plane, encoding, tmp_path):
    source = phantom_source(tmp_path / "in", modality=modality, plane=plane)
    labels = random_labels(source.shape)
    path = tmp_path / "seg.dcm"
    label_seg(labels, source, NAMES, ALGORITHM, encoding).save_as(path)
    found = read_seg(path)
    np.testing.assert_array_equal(found.labels_on(source), labels)
    assert found.names == NAMES


def test_every_frame_lies_on_the_slice_that_it_names(tmp_path):
    """Frame by frame with pydicom alone: same slice, same plane, the mask of that slice."""
    series = phantom.tilted(15)(Phantom().datasets())
    source = source_in(tmp_path / "in", series)
    labels = random_labels(source.shape)
    path = tmp_path / "seg.dcm"
    label_seg(labels, source, NAMES, ALGORITHM).save_as(path)
    ds = pydicom.dcmread(path)
    slices = {one.SOPInstanceUID: one for one in series}
    order = [reference.sop_uid for reference in source.references]
    shared = ds.SharedFunctionalGroupsSequence[0]
    pixels = pixel_array(path)
    seen = set()
    for groups, mask in zip(ds.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        image = groups.DerivationImageSequence[0].SourceImageSequence[0]
        stored = slices[image.ReferencedSOPInstanceUID]
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        seen.add((number, stored.SOPInstanceUID))
        np.testing.assert_array_equal(mask, labels[order.index(stored.SOPInstanceUID)] == number)
        orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        spacing = shared.PixelMeasuresSequence[0].PixelSpacing
        for row, column in ((0, 0), (23, 31)):
            here = lps_of(
                groups.PlanePositionSequence[0].ImagePositionPatient,
                orientation,
                spacing,
                row,
                column,
            )
            there = lps_of(
                stored.ImagePositionPatient,
                stored.ImageOrientationPatient,
                stored.PixelSpacing,
                row,
                column,
            )
            np.testing.assert_allclose(here, there, atol=1e-6)
    assert len(seen) == 3 * 10  # two slices are empty
    series_item = ds.ReferencedSeriesSequence[0]
    assert [
        item.ReferencedSOPInstanceUID for item in series_item.ReferencedInstanceSequence
    ] == order
    assert series_item.SeriesInstanceUID == series[0].SeriesInstanceUID


def test_highdicom_reads_the_same_masks_by_source_instance(tmp_path):
    source = phantom_source(tmp_path / "in", plane="oblique")
    labels = random_labels(source.shape)
    path = tmp_path / "seg.dcm"
    for encoding in Encoding:
        label_seg(labels, source, NAMES, ALGORITHM, encoding).save_as(path)
        uids = [reference.sop_uid for reference in source.references]
        found = highdicom.seg.segread(path).get_pixels_by_source_instance(
            uids, combine_segments=True, assert_missing_frames_are_empty=True
        )
        np.testing.assert_array_equal(found, labels)


@encodings
def test_a_lone_class_keeps_its_number_and_its_name(encoding, tmp_path):
    source = phantom_source(tmp_path / "in")
    labels = np.zeros(source.shape, np.uint8)
    labels[4, 5:9, 6:20] = 2
    path = tmp_path / "seg.dcm"
    label_seg(labels, source, NAMES, ALGORITHM, encoding).save_as(path)
    found = read_seg(path)
    np.testing.assert_array_equal(found.labels_on(source), labels)
    assert found.names == NAMES


@encodings
def test_a_mask_without_any_label_is_an_object_with_every_class(encoding, tmp_path, capfd):
    source = phantom_source(tmp_path / "in")
    labels = np.zeros(source.shape, np.uint8)
    path = tmp_path / "seg.dcm"
    label_seg(labels, source, NAMES, ALGORITHM, encoding).save_as(path)
    found = read_seg(path)
    np.testing.assert_array_equal(found.labels_on(source), labels)
    assert found.names == NAMES
    (series,) = pydicom.dcmread(path).ReferencedSeriesSequence
    assert len(series.ReferencedInstanceSequence) == 12
    assert not capfd.readouterr().err


DAMAGES = {
    "descending": lambda series: series[::-1],
    "numbered at random": phantom.in_order(phantom.shuffled),
    "tilted": phantom.tilted(15),
    "uneven": phantom.uneven(),
    "rounded directions": phantom.every(
        phantom.setting(ImageOrientationPatient=[0.940, 0.342, 0, -0.220, 0.604, 0.766])
    ),
    "jitter in directions": phantom.only(
        lambda number: number % 2 == 1,
        phantom.setting(ImageOrientationPatient=[1, 0.00002, 0, 0, 1, 0]),
    ),
    "no frame of reference": phantom.every(phantom.setting(FrameOfReferenceUID=None)),
    "no thickness": phantom.every(phantom.setting(SliceThickness=None)),
    "no patient": phantom.every(
        phantom.setting(PatientID=None, PatientSex=None, PatientBirthDate=None, StudyID=None)
    ),
    "a name that is one word": phantom.every(
        phantom.setting(PatientName="Phantom", PatientSex="X", PatientBirthDate="unknown")
    ),
}


@encodings
@pytest.mark.parametrize("damage", DAMAGES)
def test_odd_series_get_their_masks_on_their_own_slices(damage, encoding, tmp_path):
    source = source_in(tmp_path / "in", DAMAGES[damage](Phantom().datasets()))
    labels = random_labels(source.shape)
    path = tmp_path / "seg.dcm"
    label_seg(labels, source, NAMES, ALGORITHM, encoding).save_as(path)
    np.testing.assert_array_equal(read_seg(path).labels_on(source), labels)


def test_each_volume_of_a_split_series_gets_masks_on_its_own_slices(tmp_path):
    series = phantom.phases(2, AcquisitionNumber=lambda phase: phase + 1)(Phantom().datasets())
    phantom.write(series, tmp_path / "in")
    refs = scan(tmp_path / "in").accepted
    assert len(refs) == 2
    referenced = []
    for ref in refs:
        source = read_source(ref)
        labels = random_labels(source.shape)
        path = tmp_path / f"{ref.key}.dcm"
        label_seg(labels, source, NAMES, ALGORITHM).save_as(path)
        np.testing.assert_array_equal(read_seg(path).labels_on(source), labels)
        (item,) = pydicom.dcmread(path).ReferencedSeriesSequence
        uids = {one.ReferencedSOPInstanceUID for one in item.ReferencedInstanceSequence}
        assert uids == {one.sop_uid for one in ref.slices}
        referenced.append(uids)
    assert not referenced[0] & referenced[1]


@encodings
def test_frames_of_an_enhanced_object_are_named_by_number(encoding, tmp_path):
    enhanced, source = enhanced_source(tmp_path)
    labels = random_labels(source.shape)
    path = tmp_path / "seg.dcm"
    label_seg(labels, source, NAMES, ALGORITHM, encoding).save_as(path)
    np.testing.assert_array_equal(read_seg(path).labels_on(source), labels)
    ds = pydicom.dcmread(path)
    (item,) = ds.ReferencedSeriesSequence
    (one,) = item.ReferencedInstanceSequence
    assert one.ReferencedSOPInstanceUID == "2.25.12"
    for groups in ds.PerFrameFunctionalGroupsSequence:
        image = groups.DerivationImageSequence[0].SourceImageSequence[0]
        stored = enhanced.PerFrameFunctionalGroupsSequence[image.ReferencedFrameNumber - 1]
        assert image.ReferencedSOPClassUID == enhanced.SOPClassUID
        np.testing.assert_allclose(
            np.array(stored.PlanePositionSequence[0].ImagePositionPatient, dtype=float),
            np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float),
        )


def test_overlapping_masks_come_back_as_masks_and_refuse_to_be_a_label_map(tmp_path):
    source = phantom_source(tmp_path / "in")
    masks = np.random.default_rng(0).random((3, *source.shape)) > 0.5
    masks[1] = False
    path = tmp_path / "seg.dcm"
    label_seg(masks, source, NAMES, ALGORITHM).save_as(path)
    found = read_seg(path)
    np.testing.assert_array_equal(found.masks_on(source), masks)
    assert pydicom.dcmread(path).SegmentsOverlap == "YES"
    with pytest.raises(InputError, match="overlap"):
        found.labels_on(source)


def test_probabilities_come_back_to_half_a_step_of_255(tmp_path):
    source = phantom_source(tmp_path / "in", modality="MR", plane="oblique")
    probabilities = np.random.default_rng(0).random((3, *source.shape)).astype(np.float32)
    probabilities[1, 3:7] = 0  # frames that are left out
    path = tmp_path / "seg.dcm"
    probability_seg(probabilities, source, NAMES, ALGORITHM).save_as(path)
    found = read_seg(path)
    assert found.kind == "FRACTIONAL"
    np.testing.assert_allclose(found.masks_on(source), probabilities, atol=0.5 / 255 + 1e-6)
    assert dicom_errors(path) == []
    uids = [reference.sop_uid for reference in source.references]
    theirs = highdicom.seg.segread(path).get_pixels_by_source_instance(
        uids, assert_missing_frames_are_empty=True
    )
    np.testing.assert_allclose(np.moveaxis(theirs, -1, 0), probabilities, atol=0.5 / 255 + 1e-6)
    with pytest.raises(InputError, match="fractions"):
        found.labels_on(source)


def test_probabilities_beyond_one_are_refused(tmp_path):
    source = phantom_source(tmp_path / "in")
    for wrong in (1.5, -0.1, np.nan):
        with pytest.raises(InputError, match="from 0 to 1"):
            probability_seg(np.full((3, *source.shape), wrong), source, NAMES, ALGORITHM)


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("content", ["full", "one class", "empty"])
def test_the_validator_of_others_finds_no_error(content, modality, tmp_path):
    """LABELMAP objects are younger than dciodvfy, which does not know them."""
    source = phantom_source(tmp_path / "in", modality=modality, plane="oblique")
    labels = random_labels(source.shape)
    if content != "full":
        labels[labels != (2 if content == "one class" else 0)] = 0
    path = tmp_path / "seg.dcm"
    label_seg(labels, source, NAMES | {4: "something new"}, ALGORITHM).save_as(path)
    assert dicom_errors(path) == []


def test_labels_above_255_fit_a_label_map(tmp_path):
    source = phantom_source(tmp_path / "in")
    names = {number: f"part {number}" for number in (1, 44, 255, 256, 300)}
    labels = np.random.default_rng(0).choice(np.array([0, *names], np.uint16), source.shape)
    path = tmp_path / "seg.dcm"
    label_seg(labels, source, names, ALGORITHM, Encoding.LABELMAP).save_as(path)
    found = read_seg(path)
    assert found.names == names
    np.testing.assert_array_equal(found.labels_on(source), labels)


def test_labels_with_gaps_need_a_label_map(tmp_path):
    source = phantom_source(tmp_path / "in")
    labels = np.zeros(source.shape, np.uint8)
    labels[3, 3, 3] = 7
    names = {2: "liver", 7: "spleen"}
    with pytest.raises(InputError, match="LABELMAP"):
        label_seg(labels, source, names, ALGORITHM)
    path = tmp_path / "seg.dcm"
    label_seg(labels, source, names, ALGORITHM, Encoding.LABELMAP).save_as(path)
    np.testing.assert_array_equal(read_seg(path).labels_on(source), labels)
    assert read_seg(path).names == names


def test_a_mask_that_does_not_fit_is_refused(tmp_path):
    source = phantom_source(tmp_path / "in")
    with pytest.raises(InputError, match="does not fit"):
        label_seg(np.zeros((3, 3, 3), np.uint8), source, NAMES, ALGORITHM)
    with pytest.raises(InputError, match=r"without a name: \[4\]"):
        label_seg(np.full(source.shape, 4, np.uint8), source, NAMES, ALGORITHM)


def test_every_object_says_what_made_it_and_what_its_segments_are(tmp_path):
    source = phantom_source(tmp_path / "in")
    path = tmp_path / "seg.dcm"
    label_seg(random_labels(source.shape), source, NAMES, ALGORITHM).save_as(path)
    ds = pydicom.dcmread(path)
    assert ds.SeriesDescription == "hippocampus_unetpp 0.1.0"
    assert "nestseg" in " ".join(ds.SoftwareVersions)
    equipment = [
        item for item in ds.ContributingEquipmentSequence if item.Manufacturer == "nestseg"
    ]
    assert equipment[-1].DeviceSerialNumber == ALGORITHM.weights_sha256
    first, second, third = ds.SegmentSequence
    (kind,) = first.SegmentedPropertyTypeCodeSequence
    assert (kind.CodeValue, kind.CodingSchemeDesignator) == ("5366008", "SCT")
    (modifier,) = kind.SegmentedPropertyTypeModifierCodeSequence
    assert modifier.CodeMeaning == "Anterior"
    assert third.SegmentLabel == "left kidney"
    for segment in (first, second, third):
        (made,) = segment.SegmentationAlgorithmIdentificationSequence
        assert made.AlgorithmName == "hippocampus_unetpp"
        assert made.AlgorithmVersion == "0.1.0"
        assert ALGORITHM.weights_sha256 in made.AlgorithmParameters
        assert segment.RecommendedDisplayCIELabValue
    assert len({segment.TrackingUID for segment in ds.SegmentSequence}) == 3


def test_a_name_in_another_alphabet_survives_the_change_of_character_set(tmp_path):
    spell = phantom.every(
        phantom.setting(SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jürgen")
    )
    source = source_in(tmp_path / "in", spell(Phantom().datasets()))
    path = tmp_path / "seg.dcm"
    names = {1: "Hüftknochen", 2: "肝臓"}
    labels = np.minimum(random_labels(source.shape), 2)
    label_seg(labels, source, names, ALGORITHM).save_as(path)
    ds = pydicom.dcmread(path)
    assert str(ds.PatientName) == "Müller^Jürgen"
    assert ds.SpecificCharacterSet == "ISO_IR 192"
    assert read_seg(path).names == names


@given(
    plane=st.sampled_from(sorted(PLANES)),
    modality=st.sampled_from(["CT", "MR"]),
    size=st.tuples(st.integers(3, 9), st.integers(3, 9), st.integers(3, 6)),
    spacing=st.tuples(*[st.floats(0.3, 6, allow_nan=False)] * 3),
    origin=st.tuples(*[st.floats(-800, 800)] * 3),
    order=st.randoms(use_true_random=False),
    tilt=st.sampled_from([0.0, 0.0, -20.0, 7.5]),
    encoding=st.sampled_from(Encoding),
    seed=st.integers(0, 999),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_round_trips_over_orientations_spacings_and_orders(  # noqa: PLR0917
    plane, modality, size, spacing, origin, order, tilt, encoding, seed, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("round")
    whole = Phantom(plane, modality, *size, *(round(mm, 3) for mm in spacing), origin)
    series = whole.datasets()
    if tilt and plane == "axial":
        series = phantom.tilted(tilt, whole.between_slices)(series)
    order.shuffle(series)
    source = source_in(folder / "in", series)
    labels = random_labels(source.shape, seed)
    path = folder / "seg.dcm"
    label_seg(labels, source, NAMES, ALGORITHM, encoding).save_as(path)
    found = read_seg(path)
    np.testing.assert_array_equal(found.labels_on(source), labels)
    assert found.names == NAMES
