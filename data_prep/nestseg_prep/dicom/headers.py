"""One DICOM file → the few facts of its header that decide what it is and where it lies.

No pixel is read. Of the tags about the patient, only a keyed hash of PatientID and its issuer is
kept, which tells patients apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileDataset
from pydicom.tag import Tag

from nestseg_prep.dicom import acquisition, files, values
from nestseg_prep.dicom.lengths import Pixels, pixels_in
from nestseg_prep.site_key import keyed_hash


@dataclass(frozen=True, eq=False)
class Frame:
    """One slice: an image plane, and how its stored values become true ones.

    Attributes:
        index: number of the frame within its file, from 0.
        position: LPS mm of the centre of the first voxel, or ``None`` if not given.
        orientation: row direction (along which the column index grows), then column direction.
        spacing: mm between rows, then mm between columns: DICOM's own order.
        thickness: SliceThickness in mm, which may differ from the distance between slices.
        slope: true value = stored value x slope + intercept.
        intercept: see ``slope``.
        rescaled: whether the header gave slope and intercept.
        phase: the settings of its acquisition, by name (``acquisition.TAGS``).
    """

    index: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    thickness: float | None
    slope: float
    intercept: float
    rescaled: bool
    phase: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Header:
    """What we need to know of one DICOM file.

    Attributes that are not those of the standard: ``patient`` is PatientID and IssuerOfPatientID,
    each as a keyed hash, ``""`` where not given; ``padding`` is the range of stored values that
    fill pixels without image, if it is declared.
    """

    path: Path = field(repr=False)
    sop_class: str
    sop_uid: str = field(repr=False)
    patient: tuple[str, str] = field(repr=False)
    study_uid: str = field(repr=False)
    series_uid: str = field(repr=False)
    modality: str
    body_part: str
    description: str = field(repr=False)
    kernel: str = field(repr=False)
    acquired: str = field(repr=False)
    image_type: tuple[str, ...]
    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    photometric: str
    transfer_syntax: str
    frame_of_reference: str = field(repr=False)
    padding: tuple[int, int] | None
    lookup_table: bool
    gzipped: bool
    enhanced: bool
    frame_count: int
    concatenated: bool
    pixels: Pixels
    frames: tuple[Frame, ...]


class Slice(NamedTuple):
    """A frame in its file: the unit that series are made of."""

    header: Header
    frame: Frame


_PLANE: Final = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "RescaleSlope",
    "RescaleIntercept",
)
# When the images were made, the most exact statement first.
_DATES: Final = (
    "AcquisitionDateTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "SeriesDate",
    "SeriesTime",
    "StudyDate",
    "StudyTime",
)
_PATIENT: Final = ("PatientID", "IssuerOfPatientID")
_WANTED: Final = (
    *acquisition.KEYWORDS,
    *_PLANE,
    *_PATIENT,
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "BodyPartExamined",
    "SeriesDescription",
    *_DATES,
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PhotometricInterpretation",
    "FrameOfReferenceUID",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "ModalityLUTSequence",
    "NumberOfFrames",
    "ConcatenationUID",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
# As tags: pydicom would turn numbers into them for each file.
_TAGS: Final = [Tag(tag) for tag in map(tag_for_keyword, _WANTED) if tag is not None]
_ACQUISITION: Final = {
    tag: name for name in acquisition.KEYWORDS if (tag := tag_for_keyword(name)) is not None
}
# Where enhanced objects keep what classic ones say at the top level.
_GROUPS: Final = (
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
    "FrameContentSequence",
    "TemporalPositionSequence",
    "MREchoSequence",
    "MRModifierSequence",
    "MRTimingAndRelatedParametersSequence",
    "MRDiffusionSequence",
    "MRImageFrameTypeSequence",
    "CTImageFrameTypeSequence",
    "CTReconstructionSequence",
    "CTXRayDetailsSequence",
    "PETFrameTypeSequence",
    "CardiacSynchronizationSequence",
    "RespiratorySynchronizationSequence",
    "ContrastBolusUsageSequence",
)
# Macros within macros.
_INNER_GROUPS: Final = ("DiffusionGradientDirectionSequence",)


def read_header(path: Path) -> Header:
    """Reads the header of one DICOM file, and checks that its pixel data is all there.

    Raises:
        NotDicomError: by its content the file is not DICOM.
        DamagedFileError: the file cannot be parsed.
        OSError: the file cannot be read.
    """
    with files.open_plain(path) as file:
        dataset = files.read_dataset(file, _TAGS)
        try:
            return _header(path, dataset, file)
        except OSError:
            raise
        # A broken value can make its conversion fail in any way.
        except Exception as error:
            msg = f"a header value cannot be read ({type(error).__name__})"
            raise files.DamagedFileError(msg) from error


def _header(path: Path, dataset: FileDataset, file: BinaryIO) -> Header:
    enhanced = values.holds(dataset, "PerFrameFunctionalGroupsSequence")
    sop_class = values.text(dataset, "SOPClassUID") or str(
        dataset.file_meta.get("MediaStorageSOPClassUID", "")
    )
    rows, columns = values.count(dataset, "Rows"), values.count(dataset, "Columns")
    frames = _enhanced_frames(dataset) if enhanced else (_frame(0, dataset),)
    frame_count = max(1, values.count(dataset, "NumberOfFrames"))
    bits = values.count(dataset, "BitsAllocated")
    stored = values.count(dataset, "BitsStored") or bits
    samples = max(1, values.count(dataset, "SamplesPerPixel"))
    size = rows * columns * samples * frame_count * bits // 8
    return Header(
        path=path,
        sop_class=sop_class,
        sop_uid=values.text(dataset, "SOPInstanceUID"),
        patient=_patient(dataset),
        study_uid=values.text(dataset, "StudyInstanceUID"),
        series_uid=values.text(dataset, "SeriesInstanceUID"),
        modality=values.text(dataset, "Modality"),
        body_part=values.text(dataset, "BodyPartExamined"),
        description=values.text(dataset, "SeriesDescription"),
        kernel=_kernel(dataset),
        acquired=_acquired(dataset),
        image_type=tuple(values.texts(dataset, "ImageType")),
        rows=rows,
        columns=columns,
        samples=samples,
        bits_allocated=bits,
        bits_stored=stored,
        high_bit=values.count(dataset, "HighBit")
        if values.texts(dataset, "HighBit")
        else stored - 1,
        signed=values.count(dataset, "PixelRepresentation") == 1,
        photometric=values.text(dataset, "PhotometricInterpretation"),
        transfer_syntax=str(dataset.file_meta.TransferSyntaxUID),
        frame_of_reference=values.text(dataset, "FrameOfReferenceUID"),
        padding=_padding(dataset, bits),
        lookup_table=bool(dataset.get("ModalityLUTSequence")),
        gzipped=files.was_gzipped(file),
        enhanced=enhanced,
        frame_count=frame_count,
        concatenated=bool(values.text(dataset, "ConcatenationUID")),
        pixels=pixels_in(file, dataset, size),
        frames=frames,
    )


def _frame(index: int, *sources: Dataset) -> Frame:
    """The plane that data sets describe together; of two that name a tag the first wins."""

    def found(keyword: str) -> Dataset:
        return next((source for source in sources if values.holds(source, keyword)), sources[0])

    slope = values.numbers(found("RescaleSlope"), "RescaleSlope", 1)
    intercept = values.numbers(found("RescaleIntercept"), "RescaleIntercept", 1)
    thickness = values.numbers(found("SliceThickness"), "SliceThickness", 1)
    return Frame(
        index=index,
        position=values.numbers(found("ImagePositionPatient"), "ImagePositionPatient", 3),
        orientation=values.numbers(found("ImageOrientationPatient"), "ImageOrientationPatient", 6),
        spacing=values.numbers(found("PixelSpacing"), "PixelSpacing", 2),
        thickness=thickness[0] if thickness else None,
        slope=slope[0] if slope else 1.0,
        intercept=intercept[0] if intercept else 0.0,
        rescaled=slope is not None and intercept is not None,
        phase=_phase(sources),
    )


def _phase(sources: Sequence[Dataset]) -> dict[str, str]:
    """The settings that data sets describe together; of two that name a tag the first wins."""
    texts: dict[str, str] = {}
    for source in reversed(sources):
        # Most of the tags are absent: an intersection asks for none of those.
        for tag in _ACQUISITION.keys() & source.keys():
            if text := values.text(source, _ACQUISITION[tag]):
                texts[_ACQUISITION[tag]] = text
    return acquisition.settings(texts)


def _patient(dataset: Dataset) -> tuple[str, str]:
    """PatientID and its issuer as keyed hashes; blanks around them mean nothing (PS3.5 6.2)."""
    number, issuer = (values.text(dataset, name).strip() for name in _PATIENT)
    return _hashed(number, "patient"), _hashed(issuer, "issuer")


@lru_cache  # the files of a series name one patient
def _hashed(text: str, purpose: str) -> str:
    return text and keyed_hash(text, purpose=purpose).hex()[:16]


def _kernel(dataset: Dataset) -> str:
    """ConvolutionKernel; enhanced objects keep it with what their frames share."""
    shared = _macros(dataset.get("SharedFunctionalGroupsSequence") or ())
    return next(
        (text for one in (dataset, *shared) if (text := values.text(one, "ConvolutionKernel"))), ""
    )


def _acquired(dataset: Dataset) -> str:
    """Date and time of acquisition as digits, ``""`` where not given; later ones sort behind."""
    moment, *pairs = _DATES
    if text := values.text(dataset, moment):
        return text
    for date, time in zip(pairs[::2], pairs[1::2], strict=True):
        if text := values.text(dataset, date):
            return text + values.text(dataset, time)
    return ""


def _enhanced_frames(dataset: Dataset) -> tuple[Frame, ...]:
    shared = _macros(dataset.get("SharedFunctionalGroupsSequence") or ())
    return tuple(
        _frame(index, *_macros([groups]), *shared, dataset)
        for index, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence)
    )


def _macros(groups: Sequence[Dataset]) -> list[Dataset]:
    """The macros of functional groups that say where a frame lies and what it shows."""
    items = [item for group in groups for name in _GROUPS for item in group.get(name) or ()]
    return items + [
        inner for item in items for name in _INNER_GROUPS for inner in item.get(name) or ()
    ]


def _padding(dataset: Dataset, bits: int) -> tuple[int, int] | None:
    """The declared padding, in the representation of the pixels (PS3.3 C.7.5.1.1.2)."""
    ends = [
        values.numbers(dataset, name, 1) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")
    ]
    if ends[0] is None:
        return None
    stored = [int(end[0]) for end in ends if end is not None]
    whole = 1 << bits
    # Some scanners write a negative value into an unsigned tag, or the reverse.
    if values.count(dataset, "PixelRepresentation") == 1:
        stored = [value - whole if 2 * value >= whole else value for value in stored]
    else:
        stored = [value % whole for value in stored]
    return min(stored), max(stored)
