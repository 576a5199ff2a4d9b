"""RTSTRUCT: contours that readers nobody here wrote fill to exactly the mask."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.draw import polygon2mask

from nestseg.outputs.dicom.contours import area, fill, outlines
from nestseg.outputs.dicom.rtstruct import departures, fidelity, structure_set
from nestseg.outputs.dicom.seg import label_seg
from nestseg.outputs.dicom.source import SourceSlices
from nestseg_prep import phantom
from nestseg_prep.phantom import Phantom

from .dicom_help import (
    ALGORITHM,
    NAMES,
    blocks,
    dicom_errors,
    enhanced_source,
    phantom_source,
    source_in,
)

SHAPES = {
    1: "sphere",
    2: "torus",
    3: "two pieces",
    4: "one voxel",
    5: "touching the border",
    6: "hole in hole",
    7: "nothing",
}
CUBE = {"between_columns": 1.0, "between_rows": 1.0, "between_slices": 1.0}
SIZE = {"columns": 32, "rows": 30, "slices": 28}
SERIES = {
    "axial": (CUBE, list),
    "reversed": (CUBE, lambda series: series[::-1]),
    "oblique": (CUBE | {"plane": "oblique"}, list),
    "sagittal": (CUBE | {"plane": "sagittal"}, list),
    "pixels that are not square": ({}, list),
    "tilted": (CUBE, phantom.tilted(15, 1.0)),
    "uneven": (CUBE, phantom.uneven(1.0)),
}


def shapes(source: SourceSlices) -> np.ndarray:
    """``(shapes, slices, rows, columns)``; some of them overlap."""
    size = np.array(source.shape)
    spacing = np.array([source.thickness, *source.spacing])
    at = np.moveaxis(np.indices(source.shape), 0, -1)
    radius = (size * spacing).min() / 2 - 1

    def distance(middle: np.ndarray) -> np.ndarray:
        return np.linalg.norm((at - middle) * spacing, axis=-1)

    middle = (size - 1) / 2
    ring = np.hypot(*np.moveaxis((at - middle)[..., 1:] * spacing[1:], -1, 0)) - 0.65 * radius
    depth = (at - middle)[..., 0] * spacing[0]
    away = distance(middle)
    masks = np.zeros((len(SHAPES), *source.shape), bool)
    masks[0] = away <= radius
    masks[1] = np.hypot(ring, depth) <= 0.3 * radius
    masks[2] = np.minimum(*(distance(middle * [1, 1, side]) for side in (0.5, 1.5))) < 0.4 * radius
    masks[3][tuple(size // 3)] = True
    masks[4] = (at[..., 0] < size[0] // 2) & (at[..., 1] < size[1] // 2)
    masks[5] = (away <= radius) & (away > 0.8 * radius) | (away <= 0.6 * radius) & (
        away > 0.3 * radius
    )
    return masks


def written(labels: np.ndarray, source: SourceSlices, path: Path, names=NAMES) -> pydicom.Dataset:
    seg = label_seg(labels, source, names, ALGORITHM)
    structure_set(labels, seg, source, names, ALGORITHM).save_as(path, enforce_file_format=True)
    return pydicom.dcmread(path)


def vertices(contour: pydicom.Dataset, image: pydicom.Dataset) -> np.ndarray:
    """Row and column of each vertex of a contour in the image that it names, and mm off it."""
    points = np.array(contour.ContourData, float).reshape(-1, 3)
    assert len(points) == contour.NumberOfContourPoints
    axes = np.array(image.ImageOrientationPatient, float).reshape(2, 3)
    away = points - np.array(image.ImagePositionPatient, float)
    assert np.abs(away @ np.cross(*axes)).max() < 1e-3  # mm
    return (away @ axes.T / np.array(image.PixelSpacing, float)[::-1])[:, ::-1]


def read_by_skimage(item: pydicom.Dataset, source: SourceSlices, images: dict) -> np.ndarray:
    """The mask of an ROI: even-odd in each contour, XOR of contours, by tags of the images."""
    order = [one.sop_uid for one in source.references]
    mask = np.zeros(source.shape, bool)
    for contour in item.get("ContourSequence", ()):
        (named,) = contour.ContourImageSequence
        image = images[named.ReferencedSOPInstanceUID]
        assert named.ReferencedSOPClassUID == image.SOPClassUID
        inside = polygon2mask(source.shape[1:], vertices(contour, image))
        mask[order.index(image.SOPInstanceUID)] ^= inside
    return mask


@pytest.mark.parametrize("kind", SERIES)
def test_other_readers_get_the_mask_back_from_the_contours(kind, tmp_path):
    spacing, change = SERIES[kind]
    series = change(Phantom(**SIZE | spacing).datasets())
    source = source_in(tmp_path / "in", series)
    masks = shapes(source)
    path = tmp_path / "contours.dcm"
    found = written(masks, source, path, SHAPES)
    assert dicom_errors(path) == []
    images = {ds.SOPInstanceUID: ds for ds in series}
    for mask, item in zip(masks, found.ROIContourSequence, strict=True):
        np.testing.assert_array_equal(read_by_skimage(item, source, images), mask)
    compared = fidelity(path, masks, source, SHAPES)
    assert {one["dice"] for one in compared.values()} == {1.0}
    assert compared.keys() == set(SHAPES.values()) - {"nothing"}
    large = [name for mask, name in zip(masks, SHAPES.values(), strict=True) if mask.sum() > 2000]
    assert len(large) >= 3
    assert all(abs(compared[name]["volume_ratio"] - 1) < 0.01 for name in large)
    # The outline of one voxel is a diamond through the middles of its sides.
    assert compared["one voxel"]["volume_ratio"] == pytest.approx(0.5, abs=1e-3)
    assert "one voxel" in departures(compared)
    assert not set(large) & set(departures(compared))


@pytest.mark.parametrize("kind", ["axial", "reversed", "oblique", "sagittal"])
def test_plastimatch_gets_the_mask_back_from_the_contours(kind, tmp_path):
    if shutil.which("plastimatch") is None:
        pytest.skip("no plastimatch here: apt-get install plastimatch")
    spacing, change = SERIES[kind]
    source = source_in(tmp_path / "in", change(Phantom(**SIZE | spacing).datasets()))
    masks = shapes(source)
    written(masks, source, tmp_path / "contours.dcm", SHAPES)
    words = ["plastimatch", "convert", "--input", tmp_path / "contours.dcm"]
    words += ["--referenced-ct", tmp_path / "in", "--prefix-format", "nii.gz"]
    words += ["--output-prefix", tmp_path / "out"]
    subprocess.run(words, capture_output=True, check=True)
    corner = source.positions[0].tolist()
    for mask, name in zip(masks, SHAPES.values(), strict=True):
        if not mask.any():
            continue
        image = SimpleITK.ReadImage(tmp_path / "out" / f"{name}.nii.gz")
        there = np.array(image.GetDirection()).reshape(3, 3).T @ source.axes.T
        np.testing.assert_allclose(there, np.eye(3), atol=1e-4)
        np.testing.assert_allclose(image.GetOrigin(), corner, atol=1e-3)
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image) != 0, mask)


@given(plane=arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
@settings(deadline=None, max_examples=100)
def test_any_mask_of_a_slice_comes_back_from_its_outlines(plane):
    found = list(outlines(plane))
    pieces, count = ndimage.label(plane)
    around = np.pad(~plane, 1, constant_values=True)
    holes = ndimage.label(around, np.ones((3, 3)))[1] - 1
    assert len(found) == count
    by_us, by_skimage = np.zeros_like(plane), np.zeros_like(plane)
    for points in found:
        inside = fill(points, plane.shape)
        assert len(np.unique(pieces[inside])) == 1  # no outline holds a part of another piece
        assert not (by_us & inside).any()
        by_us |= inside
        by_skimage ^= polygon2mask(plane.shape, points[:, ::-1])
        assert (points[0] != points[-1]).any()
    np.testing.assert_array_equal(by_us, plane)
    np.testing.assert_array_equal(by_skimage, plane)
    assert sum(map(area, found)) == plane.sum() - (count - holes) / 2


def test_keyholes_come_back_exactly_and_not_too_soon():
    """As SlicerRT looks for them: within 0.001 mm, and three vertices later or more."""
    plane = np.ones((9, 11), bool)
    plane[2:4, 2:4] = plane[6, 3] = plane[4:7, 6:9] = plane[7, 9] = False
    (points,) = outlines(plane)
    _, places, counts = np.unique(points, axis=0, return_inverse=True, return_counts=True)
    twice = [np.flatnonzero(places == place) for place in np.flatnonzero(counts > 1)]
    assert len(twice) == 2 * 3  # both ends of a keyhole for each hole; the last two are one
    assert min(np.diff(at).min() for at in twice) >= 4


def test_an_outline_that_leaves_the_slice_is_filled_where_the_slice_is():
    around = np.array([[-3.5, -3.0], [2.5, -3.0], [2.5, 9.0], [-3.5, 9.0]])
    np.testing.assert_array_equal(fill(around, (4, 5)), [[True, True, True, False, False]] * 4)
    assert not fill(around - 20, (4, 5)).any()


def test_labels_and_masks_of_them_are_the_same_contours(tmp_path):
    source = phantom_source(tmp_path / "in")
    labels = blocks(source.shape)
    masks = np.stack([labels == number for number in NAMES])
    one, other = (
        written(given, source, tmp_path / "contours.dcm").ROIContourSequence
        for given in (labels, masks)
    )
    assert one == other


def test_each_label_is_an_roi_with_its_number_name_codes_and_colour(tmp_path):
    source = phantom_source(tmp_path / "in")
    names = NAMES | {4: "tumour", 5: "something new", 6: "spleen"}
    labels = blocks(source.shape, highest=5)
    path = tmp_path / "contours.dcm"
    ds = written(labels, source, path, names)
    assert dicom_errors(path) == []
    assert [str(roi.ROIName) for roi in ds.StructureSetROISequence] == list(names.values())
    sequences = (
        (ds.StructureSetROISequence, "ROINumber"),
        (ds.ROIContourSequence, "ReferencedROINumber"),
        (ds.RTROIObservationsSequence, "ReferencedROINumber"),
    )
    for items, keyword in sequences:
        assert [item[keyword].value for item in items] == list(names)
    anterior, _, kidney, tumour, new, _ = ds.RTROIObservationsSequence
    (code,) = anterior.RTROIIdentificationCodeSequence
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("5366008", "SCT")
    assert code.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Anterior"
    types = [one.RTROIInterpretedType for one in (kidney, tumour, new)]
    assert types == ["ORGAN", "", ""]  # whether a tumour is a target is for a person to say
    assert list(ds.ROIContourSequence[2].ROIDisplayColor) == [185, 102, 83]
    assert "ContourSequence" not in ds.ROIContourSequence[5]  # no spleen was found
    assert ds.ApprovalStatus == "UNAPPROVED"
    assert ds.SeriesDescription == "hippocampus_unetpp 0.1.0 contours"
    seg = label_seg(labels, source, names, ALGORITHM)
    for roi in ds.StructureSetROISequence:
        (segment,) = roi.DefinitionSourceSequence
        assert segment.ReferencedSOPInstanceUID == seg.SOPInstanceUID
        assert segment.ReferencedSegmentNumber == roi.ROINumber
        (made,) = roi.ROIDerivationAlgorithmIdentificationSequence
        assert ALGORITHM.weights_sha256 in made.AlgorithmParameters


def test_contours_name_the_frame_of_reference_the_study_and_every_slice(tmp_path):
    source = phantom_source(tmp_path / "in")
    ds = written(blocks(source.shape), source, tmp_path / "contours.dcm")
    image = pydicom.dcmread(next((tmp_path / "in").iterdir()))
    (frame,) = ds.ReferencedFrameOfReferenceSequence
    assert frame.FrameOfReferenceUID == image.FrameOfReferenceUID == ds.FrameOfReferenceUID
    (study,) = frame.RTReferencedStudySequence
    assert study.ReferencedSOPInstanceUID == image.StudyInstanceUID
    (series,) = study.RTReferencedSeriesSequence
    assert series.SeriesInstanceUID == image.SeriesInstanceUID
    named = [item.ReferencedSOPInstanceUID for item in series.ContourImageSequence]
    assert named == [one.sop_uid for one in source.references]
    assert {roi.ReferencedFrameOfReferenceUID for roi in ds.StructureSetROISequence} == {
        image.FrameOfReferenceUID
    }


def test_contours_name_the_frames_of_an_enhanced_object(tmp_path):
    enhanced, source = enhanced_source(tmp_path)
    labels = blocks(source.shape)
    path = tmp_path / "contours.dcm"
    ds = written(labels, source, path)
    assert dicom_errors(path) == []
    (shared,) = enhanced.SharedFunctionalGroupsSequence
    for contour in ds.ROIContourSequence[0].ContourSequence:
        (named,) = contour.ContourImageSequence
        groups = enhanced.PerFrameFunctionalGroupsSequence[named.ReferencedFrameNumber - 1]
        image = pydicom.Dataset()
        for name in ("PlanePosition", "PlaneOrientation", "PixelMeasures"):
            holder = groups if f"{name}Sequence" in groups else shared
            image.update(holder[f"{name}Sequence"][0])
        vertices(contour, image)  # in its plane
    assert {one["dice"] for one in fidelity(path, labels, source, NAMES).values()} == {1.0}


def test_a_contour_of_more_than_64_kilobytes_comes_back(tmp_path):
    """So long a value fits Implicit VR alone."""
    source = source_in(tmp_path / "in", Phantom(columns=240, rows=400, slices=3).datasets())
    labels = np.zeros(source.shape, np.uint8)
    labels[1, ::4] = labels[1, :, 0] = 1
    labels[1, 1::4, ::2] = 1  # a comb with teeth on its teeth, in one piece
    ds = written(labels, source, tmp_path / "contours.dcm", {1: "comb"})
    (contour,) = ds.ROIContourSequence[0].ContourSequence
    assert len("\\".join(map(str, contour.ContourData))) > 2**16
    assert fidelity(tmp_path / "contours.dcm", labels, source, {1: "comb"})["comb"]["dice"] == 1
