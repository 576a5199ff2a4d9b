"""Label maps and probabilities → DICOM segmentation objects, by highdicom.

highdicom gets a stand-in for each source slice: its place, and nothing of the patient, whose tags
may break the rules that highdicom checks and are copied unchanged afterwards. A stand-in's UID is
the number of its slice; the references that highdicom makes of it are replaced by those to the
stored slices, so that classic, enhanced and split series take one path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from highdicom.color import CIELabColor
from highdicom.frame import encode_frame
from highdicom.seg import Segmentation, SegmentDescription
from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless
from pydicom.valuerep import DSfloat

from nestseg.outputs.dicom.algorithm import LONG_STRING, MANUFACTURER, Algorithm, uid_from
from nestseg.outputs.dicom.encoding import Encoding
from nestseg.outputs.dicom.identity import Identity, identity, make_repeatable
from nestseg.outputs.dicom.source import SourceSlices
from nestseg.outputs.dicom.terminology import Concept, concept_of
from nestseg_prep.errors import InputError

SERIES_NUMBER: Final = 9101
FULL: Final = 255
"""MaximumFractionalValue: stored for a probability of one."""
UNICODE: Final = "ISO_IR 192"

_STAND_IN: Final = "2.25."
_EMPTY: Final = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
_LOSSY: Final = (
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
_MACHINE: Final = ("Manufacturer", "ManufacturerModelName", "SoftwareVersions")


def label_seg(
    labels: npt.NDArray[Any],
    source: SourceSlices,
    names: Mapping[int, str],
    algorithm: Algorithm,
    encoding: Encoding = Encoding.BINARY,
) -> Segmentation:
    """A label map, or masks that may overlap, as a segmentation object.

    Every class is described, whether it was found or not, under the number that it has in
    ``names``: class 2 alone stays class 2.

    Args:
        labels: ``(slices, rows, columns)`` uint8 or uint16 on the slices of ``source``; for
            ``BINARY`` also ``(segments, slices, rows, columns)`` bool, in the order of ``names``.
        source: the slices.
        names: label → name, without the background.
        algorithm: what made it.
        encoding: how it is stored.

    Raises:
        InputError: the array does not fit the source, holds a label without a name, or the labels
            have gaps, which ``BINARY`` cannot express.
    """
    numbers = _checked(labels, source, names)
    if encoding is Encoding.BINARY and numbers != list(range(1, len(numbers) + 1)):
        msg = f"a BINARY SEG numbers its segments 1, 2, 3 …, not {numbers}; write a LABELMAP SEG"
        raise InputError(msg)
    if labels.ndim == 4:
        if encoding is Encoding.LABELMAP:
            msg = "a LABELMAP SEG holds one label for each voxel; write a BINARY SEG"
            raise InputError(msg)
        labels = np.moveaxis(labels.astype(np.bool_, copy=False), 0, -1)
    uids = identity(encoding.value, labels, source, algorithm)
    seg = _object(labels, source, names, algorithm, encoding.value.upper(), uids)
    _finish(seg, source)
    return seg


def probability_seg(
    probabilities: npt.NDArray[Any],
    source: SourceSlices,
    names: Mapping[int, str],
    algorithm: Algorithm,
) -> Segmentation:
    """Probabilities as a FRACTIONAL segmentation object, in steps of 1/255.

    Args:
        probabilities: ``(segments, slices, rows, columns)`` from 0 to 1, segments in the order of
            ``names``; or uint8, from 0 to 255.
        source: the slices.
        names: label → name, without the background.
        algorithm: what made them.

    Raises:
        InputError: as ``label_seg``, or a value lies outside of 0 to 1.
    """
    numbers = _checked(probabilities, source, names)
    if numbers != list(range(1, len(numbers) + 1)):
        msg = f"a FRACTIONAL SEG numbers its segments 1, 2, 3 …, not {numbers}"
        raise InputError(msg)
    frames = {
        (number, k): quantised
        for number, stack in zip(numbers, probabilities, strict=True)
        for k, plane in enumerate(stack)
        if (quantised := _quantised(plane)).any()
    }
    # highdicom would hold all probabilities at once, twice, and sort them. It needs to know which
    # frames there are: one pixel marks each, and the pixels are put in below.
    marks = np.zeros(source.shape, np.uint16)
    for number, k in frames:
        marks[k].flat[number] = number
    uids = identity("fractional", probabilities, source, algorithm)
    seg = _object(marks, source, names, algorithm, "FRACTIONAL", uids)
    seg.SegmentsOverlap = "UNDEFINED"
    nothing = np.zeros(source.shape[1:], np.uint8)
    encoded = [
        encode_frame(frames.get(place, nothing), RLELossless, 8, 8, "MONOCHROME2", 0)
        for place in _places(seg)
    ]
    seg.PixelData = encapsulate(encoded)
    _finish(seg, source)
    return seg


def title_of(algorithm: Algorithm) -> str:
    """What a segmentation says of its content."""
    return f"Automatic segmentation by {algorithm.name}"[:LONG_STRING]


def _checked(array: npt.NDArray[Any], source: SourceSlices, names: Mapping[int, str]) -> list[int]:
    """The labels, ascending, after a look at whether everything fits together."""
    numbers = sorted(names)
    expected = source.shape if array.ndim == 3 else (len(numbers), *source.shape)
    if array.shape != expected:
        msg = f"a mask of {array.shape} does not fit slices of {source.shape}"
        raise InputError(msg)
    if not numbers or numbers[0] < 1:
        msg = f"labels of segments start at 1, got {numbers}"
        raise InputError(msg)
    if array.ndim == 3:
        found = {int(label) for plane in array for label in np.unique(plane)}
        if unnamed := sorted(found - {0, *numbers}):
            msg = f"the mask holds labels without a name: {unnamed}"
            raise InputError(msg)
    return numbers


def _quantised(plane: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if plane.dtype == np.uint8:
        return plane
    if not (plane.min() >= 0 and plane.max() <= 1):  # also false for NaN
        msg = "probabilities lie from 0 to 1"
        raise InputError(msg)
    return np.rint(plane * np.float32(FULL)).astype(np.uint8)


def _object(
    pixels: npt.NDArray[Any],
    source: SourceSlices,
    names: Mapping[int, str],
    algorithm: Algorithm,
    kind: str,
    uids: Identity,
) -> Segmentation:
    stand_ins = _stand_ins(source)
    empty = not pixels.any()
    if empty:
        # An object needs a frame; the first slice of each segment says as much as all of them.
        stand_ins, pixels = stand_ins[:1], pixels[:1]
    return Segmentation(
        source_images=stand_ins,
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=[
            _description(number, names[number], source, algorithm) for number in sorted(names)
        ],
        series_instance_uid=uids.series,
        series_number=SERIES_NUMBER,
        sop_instance_uid=uids.sop,
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=algorithm.model_name,
        software_versions=algorithm.software_versions,
        device_serial_number=algorithm.weights_sha256,
        max_fractional_value=FULL,
        content_label="SEGMENTATION",
        content_description=title_of(algorithm),
        series_description=algorithm.described(source.part),
        # Bits cannot be run-length encoded, bytes shrink to a tenth and less.
        transfer_syntax_uid=ExplicitVRLittleEndian if kind == "BINARY" else RLELossless,
        omit_empty_frames=not empty,
        contributing_equipment=[algorithm.equipment],
        specific_character_set=UNICODE,
    )


def _stand_ins(source: SourceSlices) -> list[Dataset]:
    images = []
    for number, position in enumerate(source.positions):
        image = Dataset()
        image.SOPClassUID = CTImageStorage
        image.SOPInstanceUID = f"{_STAND_IN}{number + 1}"
        image.StudyInstanceUID = source.study_uid
        image.SeriesInstanceUID = source.series_uid
        image.FrameOfReferenceUID = source.frame_of_reference
        image.PositionReferenceIndicator = ""
        image.Modality = source.modality
        image.Rows, image.Columns = source.rows, source.columns
        image.ImagePositionPatient = _decimals(position)
        image.ImageOrientationPatient = _decimals(source.orientation)
        image.PixelSpacing = _decimals(source.spacing)
        image.SliceThickness = DSfloat(source.thickness, auto_format=True)
        images.append(image)
    leave_patient_empty(images[0])
    for keyword in (*_LOSSY, *_MACHINE):
        if source.header.get(keyword):
            images[0][keyword] = source.header[keyword]
    return images


def _decimals(numbers: Sequence[float] | npt.NDArray[np.float64]) -> list[DSfloat]:
    return [DSfloat(float(number), auto_format=True) for number in numbers]


def _description(
    number: int, name: str, source: SourceSlices, algorithm: Algorithm
) -> SegmentDescription:
    concept = concept_of(name, algorithm.codes)
    description = SegmentDescription(
        segment_number=number,
        segment_label=name[:LONG_STRING],
        segmented_property_category=concept.category,
        segmented_property_type=concept.type,
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm.identification,
        tracking_uid=tracking_uid(name, source, algorithm),
        tracking_id=name[:LONG_STRING],
        display_color=CIELabColor.from_rgb(*concept.colour),
    )
    _add_modifier(description, concept)
    return description


def tracking_uid(name: str, source: SourceSlices, algorithm: Algorithm) -> str:
    """The same for a structure in every result of one algorithm on one set of slices."""
    first = source.references[0]
    return uid_from(source.series_uid, first.sop_uid, str(first.frame), algorithm.name, name)


def _add_modifier(description: SegmentDescription, concept: Concept) -> None:
    if concept.modifier is not None:
        (kind,) = description.SegmentedPropertyTypeCodeSequence
        kind.SegmentedPropertyTypeModifierCodeSequence = [CodedConcept.from_code(concept.modifier)]


def _places(seg: Segmentation) -> list[tuple[int, int]]:
    """Segment number and slice of each frame, before ``_finish``."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    places = []
    for groups in seg.PerFrameFunctionalGroupsSequence:
        # A lone segment is named once for all frames.
        holder = groups if "SegmentIdentificationSequence" in groups else shared
        number = holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        places.append((int(number), _slice_of(_derivation(groups))))
    return places


def _derivation(groups: Dataset) -> Dataset:
    """The source image of a frame."""
    (derivation,) = groups.DerivationImageSequence
    image: Dataset = derivation.SourceImageSequence[0]
    return image


def _slice_of(reference: Dataset) -> int:
    return int(reference.ReferencedSOPInstanceUID.removeprefix(_STAND_IN)) - 1


def _finish(seg: Segmentation, source: SourceSlices) -> None:
    """Puts the stored slices in place of the stand-ins, and adds the patient and the study."""
    images = [_derivation(groups) for groups in seg.PerFrameFunctionalGroupsSequence]
    # Frames of one slice share one item: all are looked at before the first is changed.
    for image, k in [(image, _slice_of(image)) for image in images]:
        refer(image, *source.references[k])
    seg.SourceImageSequence = references_to(source)
    (series,) = seg.ReferencedSeriesSequence
    series.ReferencedInstanceSequence = references_to(source)
    seg.PositionReferenceIndicator = source.header.get("PositionReferenceIndicator", "")
    make_repeatable(seg)
    add_patient_and_study(seg, source)


def references_to(source: SourceSlices) -> list[Dataset]:
    """Each object once, however many of its frames are slices."""
    references = []
    for sop_class, sop_uid in dict.fromkeys((one[0], one[1]) for one in source.references):
        item = Dataset()
        refer(item, sop_class, sop_uid)
        references.append(item)
    return references


def refer(item: Dataset, sop_class: str, sop_uid: str, frame: int | None = None) -> None:
    """Lets an item name an object, or one of its frames, counted from 1."""
    item.ReferencedSOPClassUID = sop_class
    item.ReferencedSOPInstanceUID = sop_uid
    if frame is not None:
        item.ReferencedFrameNumber = frame


def add_patient_and_study(result: Any, source: SourceSlices) -> None:
    """Copies what the source says of patient and study, unchanged but for its character set."""
    header = source.header
    header.decode()
    # highdicom looks up which tags these are by the class; they are the same for all of them.
    original, header.SOPClassUID = header.SOPClassUID, CTImageStorage
    try:
        result.copy_patient_and_study_information(header)
    finally:
        header.SOPClassUID = original


def leave_patient_empty(stand_in: Dataset) -> None:
    """The tags that highdicom asks an image for, without a value."""
    for keyword in _EMPTY:
        setattr(stand_in, keyword, "")
