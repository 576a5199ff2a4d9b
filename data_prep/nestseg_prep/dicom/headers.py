"""One DICOM file → the few facts of its header that decide what it is and where it lies.

No pixel is read, and no tag about the patient is kept.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, NamedTuple

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileDataset

from nestseg_prep.dicom import files


class Pixels(Enum):
    """Whether the pixel data that a header announces is there."""

    COMPLETE = "complete"
    CUT = "cut"
    ABSENT = "absent"


@dataclass(frozen=True, eq=False)
class Frame:
    """One slice: an image plane, and how its stored values become true ones.

    Attributes:
        index: number of the frame within its file, from 0.
        position: LPS mm of the centre of the first voxel, or ``None`` if not given.
        orientation: row direction (along which the column index grows), then column direction.
        spacing: mm between rows, then mm between columns: DICOM's own order.
        slope: true value = stored value x slope + intercept.
        intercept: see ``slope``.
        rescaled: whether the header gave slope and intercept.
        phase: tags that may tell volumes of the same place apart, by name.
    """

    index: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    slope: float
    intercept: float
    rescaled: bool
    phase: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Header:
    """What we need to know of one DICOM file."""

    path: Path = field(repr=False)
    sop_class: str
    sop_uid: str = field(repr=False)
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
    signed: bool
    photometric: str
    transfer_syntax: str
    frame_of_reference: str = field(repr=False)
    padding: bool
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


# Tags that separate volumes of the same place, in the order in which they are tried.
PHASES: Final = (
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "EchoNumbers",
    "EchoTime",
    "EffectiveEchoTime",
    "DiffusionBValue",
    "TriggerTime",
    "ImageType",
    "FrameType",
)
_PLANE: Final = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
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
_WANTED: Final = (
    *PHASES,
    *_PLANE,
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "BodyPartExamined",
    "SeriesDescription",
    "ConvolutionKernel",
    *_DATES,
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "PhotometricInterpretation",
    "FrameOfReferenceUID",
    "PixelPaddingValue",
    "ModalityLUTSequence",
    "NumberOfFrames",
    "ConcatenationUID",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
_TAGS: Final = [tag for tag in map(tag_for_keyword, _WANTED) if tag is not None]
# Where enhanced objects keep what classic ones say at the top level.
_GROUPS: Final = (
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
    "FrameContentSequence",
    "MREchoSequence",
    "MRDiffusionSequence",
    "MRImageFrameTypeSequence",
    "CTImageFrameTypeSequence",
    "CTReconstructionSequence",
)
_UNDEFINED_LENGTH: Final = 0xFFFFFFFF
_PIXEL_DATA: Final = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")


def read_header(path: Path) -> Header:
    """Reads the header of one DICOM file, and checks that its pixel data is all there.

    Raises:
        NotDicomError: by its content the file is not DICOM.
        DamagedFileError: the file cannot be parsed.
        OSError: the file cannot be read.
    """
    # pydicom looks at a value when it is first asked for, and warns of broken ones then.
    with files.open_plain(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
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
    enhanced = "PerFrameFunctionalGroupsSequence" in dataset
    sop_class = _text(dataset, "SOPClassUID") or str(
        dataset.file_meta.get("MediaStorageSOPClassUID", "")
    )
    rows, columns = _count(dataset, "Rows"), _count(dataset, "Columns")
    frames = _enhanced_frames(dataset) if enhanced else (_frame(0, dataset),)
    frame_count = max(1, _count(dataset, "NumberOfFrames"))
    bits = _count(dataset, "BitsAllocated")
    samples = max(1, _count(dataset, "SamplesPerPixel"))
    size = rows * columns * samples * frame_count * bits // 8
    return Header(
        path=path,
        sop_class=sop_class,
        sop_uid=_text(dataset, "SOPInstanceUID"),
        study_uid=_text(dataset, "StudyInstanceUID"),
        series_uid=_text(dataset, "SeriesInstanceUID"),
        modality=_text(dataset, "Modality"),
        body_part=_text(dataset, "BodyPartExamined"),
        description=_text(dataset, "SeriesDescription"),
        kernel=_kernel(dataset),
        acquired=_acquired(dataset),
        image_type=tuple(_texts(dataset, "ImageType")),
        rows=rows,
        columns=columns,
        samples=samples,
        bits_allocated=bits,
        bits_stored=_count(dataset, "BitsStored") or bits,
        signed=_count(dataset, "PixelRepresentation") == 1,
        photometric=_text(dataset, "PhotometricInterpretation"),
        transfer_syntax=str(dataset.file_meta.TransferSyntaxUID),
        frame_of_reference=_text(dataset, "FrameOfReferenceUID"),
        padding="PixelPaddingValue" in dataset,
        lookup_table=bool(dataset.get("ModalityLUTSequence")),
        gzipped=files.was_gzipped(file),
        enhanced=enhanced,
        frame_count=frame_count,
        concatenated=bool(_text(dataset, "ConcatenationUID")),
        pixels=_pixels(file, dataset, size),
        frames=frames,
    )


def _frame(index: int, *sources: Dataset) -> Frame:
    """The plane that data sets describe together; of two that name a tag the first wins."""

    def found(keyword: str) -> Dataset:
        return next((source for source in sources if keyword in source), sources[0])

    slope = _numbers(found("RescaleSlope"), "RescaleSlope", 1)
    intercept = _numbers(found("RescaleIntercept"), "RescaleIntercept", 1)
    phase = {name: "\\".join(_texts(found(name), name)) for name in PHASES}
    return Frame(
        index=index,
        position=_numbers(found("ImagePositionPatient"), "ImagePositionPatient", 3),
        orientation=_numbers(found("ImageOrientationPatient"), "ImageOrientationPatient", 6),
        spacing=_numbers(found("PixelSpacing"), "PixelSpacing", 2),
        slope=slope[0] if slope else 1.0,
        intercept=intercept[0] if intercept else 0.0,
        rescaled=slope is not None and intercept is not None,
        phase={name: value for name, value in phase.items() if value},
    )


def _kernel(dataset: Dataset) -> str:
    """ConvolutionKernel; enhanced objects keep it with what their frames share."""
    shared = _macros(dataset.get("SharedFunctionalGroupsSequence") or ())
    return next(
        (text for one in (dataset, *shared) if (text := _text(one, "ConvolutionKernel"))), ""
    )


def _acquired(dataset: Dataset) -> str:
    """Date and time of acquisition as digits, ``""`` where not given; later ones sort behind."""
    moment, *pairs = _DATES
    if text := _text(dataset, moment):
        return text
    for date, time in zip(pairs[::2], pairs[1::2], strict=True):
        if text := _text(dataset, date):
            return text + _text(dataset, time)
    return ""


def _enhanced_frames(dataset: Dataset) -> tuple[Frame, ...]:
    shared = _macros(dataset.get("SharedFunctionalGroupsSequence") or ())
    return tuple(
        _frame(index, *_macros([groups]), *shared, dataset)
        for index, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence)
    )


def _macros(groups: Sequence[Dataset]) -> list[Dataset]:
    """The macros of functional groups that say where a frame lies and what it shows."""
    return [item for group in groups for name in _GROUPS for item in group.get(name) or ()]


def _texts(dataset: Dataset, keyword: str) -> list[str]:
    value: Any = dataset.get(keyword)
    if value is None:
        return []
    values = [value] if isinstance(value, str) or not isinstance(value, Sequence) else value
    return [str(item).strip("\0 ") for item in values]


def _text(dataset: Dataset, keyword: str) -> str:
    return "\\".join(_texts(dataset, keyword))


def _count(dataset: Dataset, keyword: str) -> int:
    value: Any = dataset.get(keyword)
    return 0 if value is None or value == "" else int(value)


def _numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """``count`` finite numbers, or ``None``: a tag that is absent, empty or broken says nothing."""
    try:
        numbers = tuple(float(text) for text in _texts(dataset, keyword))
    except ValueError:
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def _pixels(file: BinaryIO, dataset: FileDataset, expected: int) -> Pixels:
    """Checks the length of the pixel data without reading it; the file stands at its element."""
    if files.is_deflated(dataset):
        return Pixels.COMPLETE  # unpacked to its end when it was opened
    head = file.read(12)
    if head[:4] not in _PIXEL_DATA:
        return Pixels.ABSENT
    implicit, little = dataset.original_encoding
    order: Literal["little", "big"] = "little" if little else "big"
    at = 4 if implicit else 8
    length = int.from_bytes(head[at : at + 4], order)
    start = file.tell() - len(head) + at + 4
    if length == _UNDEFINED_LENGTH:
        return _encapsulated(file, start)
    end = file.seek(0, 2)
    return Pixels.COMPLETE if start + length <= end and length >= expected else Pixels.CUT


def _encapsulated(file: BinaryIO, start: int) -> Pixels:
    """Steps over the fragments of compressed pixel data to its closing delimiter."""
    end = file.seek(0, 2)
    at = start
    while at + 8 <= end:
        file.seek(at)
        tag, length = file.read(4), int.from_bytes(file.read(4), "little")
        if tag == b"\xfe\xff\xdd\xe0":
            return Pixels.COMPLETE
        if tag != b"\xfe\xff\x00\xe0":
            break
        at += 8 + length
    return Pixels.CUT
