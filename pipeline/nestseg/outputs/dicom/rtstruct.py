"""Labels → an RT structure set: closed planar contours on the stored slices, and back.

highdicom writes none; the modules that structure sets share with other objects are its own. The
file is Implicit VR Little Endian, in which a contour may be longer than 64 KB.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from highdicom.base import SOPClass
from highdicom.sr.coding import CodedConcept
from pydicom import dcmread
from pydicom.charset import default_encoding
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage, SegmentationStorage

from nestseg.outputs.dicom import contours
from nestseg.outputs.dicom.algorithm import LONG_STRING, MANUFACTURER, Algorithm
from nestseg.outputs.dicom.identity import identity, make_repeatable
from nestseg.outputs.dicom.seg import (
    UNICODE,
    add_patient_and_study,
    refer,
    references_to,
    title_of,
)
from nestseg.outputs.dicom.source import SourceSlices
from nestseg.outputs.dicom.terminology import concept_of

SERIES_NUMBER: Final = 9103
CONTOURS: Final = "contours"
LEAST_DICE: Final = 0.99
LARGEST_CHANGE: Final = 0.01
"""Of a volume, by its contours."""
SHORT_STRING: Final = 16
"""Characters of a text of the representation SH."""

# Detached Study Management, retired: what the standard and planning systems name a study by.
_STUDY: Final = "1.2.840.10008.3.1.2.3.1"
_CONTOUR_DATA: Final = Tag("ContourData")

Masks = npt.NDArray[np.bool_]


def structure_set(
    labels: npt.NDArray[Any],
    seg: Dataset,
    source: SourceSlices,
    names: Mapping[int, str],
    algorithm: Algorithm,
) -> SOPClass:
    """Outline every label on every slice that holds it.

    Every class is an ROI under its number, whether it was found or not.

    Args:
        labels: as for ``seg.label_seg``: a label map, or a mask for each label.
        seg: the segmentation object of the same labels, which each ROI names as its source.
        source: the slices.
        names: label → name, without the background.
        algorithm: what made the labels.
    """
    found = _object(seg, source, algorithm)
    found.StructureSetROISequence = [
        _roi(number, names[number], seg, source, algorithm) for number in sorted(names)
    ]
    found.ROIContourSequence = [
        _contours(number, concept_of(names[number], algorithm.codes).colour, mask, source)
        for number, mask in _masks(labels, names)
    ]
    found.RTROIObservationsSequence = [
        _observation(number, names[number], algorithm) for number in sorted(names)
    ]
    return found


def fidelity(
    path: Path, labels: npt.NDArray[Any], source: SourceSlices, names: Mapping[int, str]
) -> dict[str, dict[str, float]]:
    """Read a structure set back, and compare its contours with the labels that they outline.

    Args:
        path: its file.
        labels: as for :func:`structure_set`.
        source: the slices.
        names: label → name, without the background.

    Returns:
        Name → ``dice``, once contours are filled by the centres of pixels and joined by XOR, and
        ``volume_ratio``: the area within the contours, whose corners are cut, over that of the
        pixels. Labels without a voxel are left out.
    """
    found = dcmread(path).ROIContourSequence
    items = {int(item.ReferencedROINumber): item for item in found}
    compared = {}
    for number, mask in _masks(labels, names):
        if not (voxels := int(np.count_nonzero(mask))):
            continue
        planes: dict[int, contours.Plane] = {}
        area = 0.0
        for k, points in _read_contours(items[number], source):
            area += contours.area(points)
            filled = contours.fill(points, source.shape[1:])
            planes[k] = planes[k] ^ filled if k in planes else filled
        common = sum(int((plane & mask[k]).sum()) for k, plane in planes.items())
        filled_voxels = sum(int(plane.sum()) for plane in planes.values())
        dice = 2 * common / (voxels + filled_voxels)
        ratio = area / voxels
        compared[names[number]] = {"dice": round(dice, 6), "volume_ratio": round(ratio, 6)}
    return compared


def departures(compared: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Names of labels whose contours do not say what the mask says, by :func:`fidelity`."""
    return [
        name
        for name, one in compared.items()
        if one["dice"] < LEAST_DICE or abs(one["volume_ratio"] - 1) > LARGEST_CHANGE
    ]


def _masks(labels: npt.NDArray[Any], names: Mapping[int, str]) -> Iterator[tuple[int, Masks]]:
    """Each label with its ``(slices, rows, columns)`` mask, one at a time."""
    for position, number in enumerate(sorted(names)):
        yield number, (labels[position] != 0 if labels.ndim == 4 else labels == number)


def _object(seg: Dataset, source: SourceSlices, algorithm: Algorithm) -> SOPClass:
    """Everything but the ROIs."""
    uids = identity(CONTOURS, str(seg.SOPInstanceUID), source, algorithm)
    found = SOPClass(
        study_instance_uid=source.study_uid,
        series_instance_uid=uids.series,
        series_number=SERIES_NUMBER,
        sop_instance_uid=uids.sop,
        sop_class_uid=RTStructureSetStorage,
        instance_number=1,
        modality="RTSTRUCT",
        manufacturer=MANUFACTURER,
        manufacturer_model_name=algorithm.model_name,
        software_versions=algorithm.software_versions,
        device_serial_number=algorithm.weights_sha256,
        transfer_syntax_uid=ImplicitVRLittleEndian,
        series_description=algorithm.described(source.part, CONTOURS),
        specific_character_set=UNICODE,
    )
    found.ContributingEquipmentSequence = [algorithm.equipment]
    make_repeatable(found)
    found.OperatorsName = ""
    found.StructureSetLabel = algorithm.name[:SHORT_STRING]
    found.StructureSetName = title_of(algorithm)
    found.StructureSetDate = found.InstanceCreationDate
    found.StructureSetTime = found.InstanceCreationTime
    found.ApprovalStatus = "UNAPPROVED"
    found.FrameOfReferenceUID = source.frame_of_reference
    found.PositionReferenceIndicator = source.header.get("PositionReferenceIndicator", "")
    found.ReferencedFrameOfReferenceSequence = [_frame_of_reference(source)]
    add_patient_and_study(found, source)
    return found


def _frame_of_reference(source: SourceSlices) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = source.series_uid
    series.ContourImageSequence = references_to(source)
    study = Dataset()
    refer(study, _STUDY, source.study_uid)
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = source.frame_of_reference
    frame.RTReferencedStudySequence = [study]
    return frame


def _roi(
    number: int, name: str, seg: Dataset, source: SourceSlices, algorithm: Algorithm
) -> Dataset:
    segment = Dataset()
    refer(segment, seg.SOPClassUID, seg.SOPInstanceUID)
    # dciodvfy allows no number where it does not know the class; the ROI has the same one.
    if seg.SOPClassUID == SegmentationStorage:
        segment.ReferencedSegmentNumber = number
    roi = Dataset()
    roi.ROINumber = number
    roi.ReferencedFrameOfReferenceUID = source.frame_of_reference
    roi.ROIName = name[:LONG_STRING]
    roi.ROIGenerationAlgorithm = "AUTOMATIC"
    roi.ROIDerivationAlgorithmIdentificationSequence = algorithm.identification
    roi.DefinitionSourceSequence = [segment]
    return roi


def _observation(number: int, name: str, algorithm: Algorithm) -> Dataset:
    concept = concept_of(name, algorithm.codes)
    code = CodedConcept.from_code(concept.type)
    if concept.modifier is not None:
        code.SegmentedPropertyTypeModifierCodeSequence = [CodedConcept.from_code(concept.modifier)]
    observation = Dataset()
    observation.ObservationNumber = observation.ReferencedROINumber = number
    observation.SegmentedPropertyCategoryCodeSequence = [CodedConcept.from_code(concept.category)]
    observation.RTROIIdentificationCodeSequence = [code]
    observation.RTROIInterpretedType = concept.interpreted_type
    observation.ROIInterpreter = ""
    return observation


def _contours(number: int, colour: Sequence[int], mask: Masks, source: SourceSlices) -> Dataset:
    item = Dataset()
    item.ReferencedROINumber = number
    item.ROIDisplayColor = list(colour)
    found = [
        _contour(points, k, source)
        for k in np.flatnonzero(mask.any(axis=(1, 2))).tolist()
        for points in contours.outlines(mask[k])
    ]
    if found:
        item.ContourSequence = found
    return item


def _contour(points: contours.Points, k: int, source: SourceSlices) -> Dataset:
    steps = source.axes[:2] * np.array(source.spacing[::-1])[:, np.newaxis]
    places = source.positions[k] + points @ steps
    values = ("%.4f\\" * places.size)[:-1] % tuple(places.ravel().tolist())
    image = Dataset()
    refer(image, *source.references[k])
    contour = Dataset()
    contour.ContourImageSequence = [image]
    contour.ContourGeometricType = "CLOSED_PLANAR"
    contour.NumberOfContourPoints = len(points)
    # As bytes: pydicom makes an object of each number, which takes ten times as long.
    value = values.encode() + b" " * (len(values) % 2)
    contour[_CONTOUR_DATA] = RawDataElement(
        _CONTOUR_DATA, "DS", len(value), value, 0, is_implicit_VR=True, is_little_endian=True
    )
    contour.set_original_encoding(True, True, default_encoding)
    return contour


def _read_contours(item: Dataset, source: SourceSlices) -> Iterator[tuple[int, contours.Points]]:
    """Slice and vertices of each contour of an ROI, found by where they lie in the patient."""
    row, column, normal = source.axes
    depths = source.positions @ normal
    for contour in item.get("ContourSequence", ()):
        value: Any = contour.get_item(_CONTOUR_DATA).value
        places = np.array(value.split(b"\\"), np.float64).reshape(-1, 3)
        k = int(np.abs(depths - (places @ normal).mean()).argmin())
        places -= source.positions[k]
        yield k, np.stack([places @ row, places @ column], axis=1) / source.spacing[::-1]
