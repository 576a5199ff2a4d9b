"""DICOM files without what names their patient: PS3.15's Basic Profile, with keyed UIDs.

What is kept is listed (``keep_list``); everything else goes, at every depth. UIDs and pseudonyms
are the same in every run with the same site key, so that a result made today belongs to images
that were sent last year. Nothing that a file says of itself is believed: a file that was
de-identified before is cleaned again, which changes nothing in it, since a UID or a pseudonym of
this site carries a keyed check by which it is recognised.

The values of pixels are never changed: what may show a name is refused.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, TypeAlias
from uuid import UUID

import numpy as np
from pydicom import config
from pydicom.datadict import dictionary_has_tag, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    RLELossless,
    SegmentationStorage,
)

from nestseg_prep import keep_list
from nestseg_prep.dicom import files, kinds, pixels, terms
from nestseg_prep.errors import FileError, InputError
from nestseg_prep.site_key import keyed_hash, pseudonym

Cleaner: TypeAlias = Callable[[Dataset, DataElement, Collection[str]], None]

MAKER: Final = "nestseg"
REMOVED: Final = "REMOVED"
_LABEL_MAP_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.66.7"
_SEGMENTATIONS: Final = (SegmentationStorage, _LABEL_MAP_STORAGE)
_REPORT: Final = ("DCM", "126000")  # Imaging Measurement Report
_OWN_SCHEME: Final = "99NESTSEG"
_PROFILE: Final = (("113100", "Basic Application Confidentiality Profile"),)
_CLEAN_CONTENT: Final = ("113104", "Clean Structured Content Option")
_HEADS: Final = ("HEAD", "BRAIN", "SKULL", "FACE", "NECK", "SINUS", "ORBIT", "JAW", "EAR", "IAC")
_COLOURS: Final = ("RGB", "YBR", "PALETTE", "HSV", "ARGB", "CMYK", "XYB")
_CONTENT: Final = ("ValueType", "ReferencedContentItemIdentifier")
_TABLES: Final = ("ModalityLUTSequence", "RedPaletteColorLookupTableDescriptor")
# A token fits into every representation of short text.
_TOKEN_DIGITS: Final = 16
_PATIENT_DIGITS: Final = 24
_MEANING_CHARACTERS: Final = 64
_CHECK_BYTES: Final = 6
_ALLOCATED: Final = (8, 16, 32)


class Doubt(StrEnum):
    """Why a file is not passed on."""

    NO_IMAGE = "holds text or a document, which may name the patient"
    BURNT_IN = "says that text is burnt into its pixels"
    FEATURES = "says that the patient can be recognised in its pixels"
    SCREEN = "is a screen capture or in colour: its pixels may show a name"
    TABLE = "stores its values in lookup tables, which are not passed on"
    UNREADABLE = "is damaged"


class DoubtError(FileError):
    """A file that must not leave without somebody having looked at it."""

    def __init__(self, doubt: Doubt) -> None:
        super().__init__(str(doubt))
        self.doubt = doubt


@dataclass(frozen=True)
class Written:
    """A file without its patient.

    Attributes:
        path: where it lies.
        may_show_face: CT, MR or PET of a head, or of a part that its header does not name.
    """

    path: Path
    may_show_face: bool


def deidentify_file(
    source: Path,
    place: Callable[[Dataset], Path],
    *,
    pixels_checked: bool = False,
    vouched: Collection[str] = (),
) -> Written:
    """Write one DICOM file without what names its patient.

    Args:
        source: a DICOM file.
        place: where the file goes, given the data set as it is written.
        pixels_checked: somebody looked at the pixels and found no name and no face.
        vouched: texts known to name nobody, which results may keep: names of labels.

    Raises:
        DoubtError: the file may show or tell who the patient is, or cannot be read.
        NotDicomError: the file is not DICOM.
    """
    try:
        dataset = _read(source)
        if doubt := _doubt(dataset, pixels_checked=pixels_checked):
            raise DoubtError(doubt)
        face = _may_show_face(dataset)
        deidentify(dataset, vouched)
        return Written(_save(dataset, place(dataset)), face)
    except (files.NotDicomError, DoubtError, InputError, OSError, MemoryError):
        raise  # not DICOM, refused, or a fault of the site
    # A broken value can make its conversion fail in any way.
    except Exception as error:
        raise DoubtError(Doubt.UNREADABLE) from error


def deidentify(dataset: FileDataset, vouched: Collection[str] = ()) -> None:
    """Take out of a data set what names its patient, in place.

    Args:
        dataset: a whole data set.
        vouched: see :func:`deidentify_file`.

    Raises:
        InputError: there is no site key.
        PixelError: the pixel data is broken.
    """
    patient = _pseudonym_of_patient(dataset)
    structured = "ContentSequence" in dataset
    syntax = ExplicitVRLittleEndian
    content = None
    if "PixelData" in dataset:
        _clean_pixels(dataset)
        syntax, content = dataset.file_meta.TransferSyntaxUID, dataset["PixelData"]
    _clean(dataset, vouched)
    if content is not None:
        dataset["PixelData"] = content
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientID = dataset.PatientName = patient
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = f"{MAKER}: PS3.15 Basic Profile, keyed UIDs"
    codes = (*_PROFILE, _CLEAN_CONTENT) if structured else _PROFILE
    dataset.DeidentificationMethodCodeSequence = [_code("DCM", *code) for code in codes]
    dataset.LongitudinalTemporalInformationModified = "REMOVED"
    for keyword in keep_list.EMPTY:
        setattr(dataset, keyword, "")
    dataset.set_original_encoding(False, True)  # nothing is left as it was encoded
    # What the sender wrote into the file's own header and preamble goes too.
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.preamble = b"\0" * 128


def new_uid(uid: str) -> UID:
    """Return the UID that stands for another one at this site.

    UIDs that the standard registers stay, and so do those that this function made: their last bytes
    are a keyed digest of the others.
    """
    registered = UID(uid, config.IGNORE).type or uid == _LABEL_MAP_STORAGE
    if not uid or registered or _is_ours(uid):
        return UID(uid)
    # The bits of version and variant belong to what is checked.
    start = UUID(bytes=keyed_hash(uid, purpose="uid")[:16], version=5).bytes[:-_CHECK_BYTES]
    return UID(f"2.25.{int.from_bytes(start + _check(start), 'big')}")


def folder_for(out: Path) -> Callable[[Dataset], Path]:
    """``out/STUDY/SERIES/OBJECT.dcm``, named by keyed hashes of the UIDs as they are written."""

    def place(dataset: Dataset) -> Path:
        names = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        study, series, one = (keyed_hash(str(dataset.get(name, ""))).hex()[:12] for name in names)
        return out / study / series / f"{one}.dcm"

    return place


def _read(source: Path) -> FileDataset:
    try:
        with files.open_plain(source) as file:
            return files.read_dataset(file)
    except OSError as error:
        raise DoubtError(Doubt.UNREADABLE) from error


def _pseudonym_of_patient(dataset: Dataset) -> str:
    """The same in all studies of a patient; two hospitals may give one number to two of them."""
    person = str(dataset.get("PatientID") or dataset.get("StudyInstanceUID") or "")
    if issuer := dataset.get("IssuerOfPatientID"):
        person += f"\0{issuer}"
    return pseudonym(person, purpose="patient", length=_PATIENT_DIGITS)


def _check(start: bytes) -> bytes:
    return keyed_hash(start.hex(), purpose="uid check")[:_CHECK_BYTES]


def _is_ours(uid: str) -> bool:
    root, number = uid[:5], uid[5:]
    if root != "2.25." or not (number.isascii() and number.isdigit() and len(number) <= 39):
        return False
    if str(int(number)) != number or int(number).bit_length() > 128:
        return False
    whole = int(number).to_bytes(16, "big")
    return whole[-_CHECK_BYTES:] == _check(whole[:-_CHECK_BYTES])


def _doubt(dataset: Dataset, *, pixels_checked: bool) -> Doubt | None:
    """Why a data set must not be passed on, or ``None``."""
    if dataset.get("SOPClassUID", "") in _SEGMENTATIONS:
        return None
    if "PixelData" not in dataset:
        return None if _is_measurement_report(dataset) else Doubt.NO_IMAGE
    if any(keyword in dataset for keyword in _TABLES):
        return Doubt.TABLE
    return None if pixels_checked else _doubt_of_pixels(dataset)


def _is_measurement_report(dataset: Dataset) -> bool:
    """Whether a report is one of codes, numbers and references, whose few texts are replaced."""
    names = dataset.get("ConceptNameCodeSequence") or [Dataset()]
    name = (names[0].get("CodingSchemeDesignator"), names[0].get("CodeValue"))
    return name == _REPORT and "ContentSequence" in dataset


def _doubt_of_pixels(dataset: Dataset) -> Doubt | None:
    if dataset.get("BurnedInAnnotation") == "YES":
        return Doubt.BURNT_IN
    if dataset.get("RecognizableVisualFeatures") == "YES":
        return Doubt.FEATURES
    captured = any("SCREEN" in str(value).upper() for value in _several(dataset.get("ImageType")))
    meaning = str(dataset.get("PhotometricInterpretation") or "").upper()
    colour = dataset.get("SamplesPerPixel", 1) != 1 or meaning.startswith(_COLOURS)
    is_slice = dataset.get("SOPClassUID") in kinds.VOLUME_CLASSES
    return None if is_slice and not captured and not colour else Doubt.SCREEN


def _may_show_face(dataset: Dataset) -> bool:
    part = str(dataset.get("BodyPartExamined") or "").upper()
    unknown = terms.body_part(part) in ("", terms.OTHER)
    head = any(head in part for head in _HEADS)
    return dataset.get("SOPClassUID") in kinds.VOLUME_CLASSES and (unknown or head)


def _several(value: Any) -> list[Any]:
    """The values of an element, however many it has."""
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, MultiValue | list | tuple) else [value]


def _clean(dataset: Dataset, vouched: Collection[str]) -> None:
    """Remove every element that is not on the keep-list, and every value that may be a name."""
    cleaners = _cleaners()
    for tag in list(dataset.keys()):
        cleaner = cleaners.get(tag)
        try:
            element = dataset[tag] if cleaner else None
        # A broken value can make its conversion fail in any way.
        except Exception:  # noqa: BLE001
            element = None
        if cleaner is None or element is None or not _is_of_its_kind(element):
            del dataset[tag]
        else:
            cleaner(dataset, element, vouched)


def _is_of_its_kind(element: DataElement) -> bool:
    """Whether an element has the representation that the dictionary gives its tag."""
    return element.VR in dictionary_VR(element.tag).split(" or ")


@cache
def _cleaners() -> dict[int, Cleaner]:
    by_keyword: dict[str, Cleaner] = {
        **dict.fromkeys(keep_list.NUMBERS, _keep_numbers),
        **dict.fromkeys(keep_list.UIDS, _map_uids),
        **dict.fromkeys(keep_list.POINTERS, _keep_pointers),
        **dict.fromkeys(keep_list.SEQUENCES, _clean_items),
        **dict.fromkeys({*keep_list.TERMS, *keep_list.TOKENS, *keep_list.SAID}, _keep_known),
        "BodyPartExamined": _keep_body_part,
        **{name: partial(_set_to, text) for name, text in keep_list.DUMMIES.items()},
        "PositionReferenceIndicator": partial(_set_to, ""),
    }
    tags = {keyword: tag_for_keyword(keyword) for keyword in by_keyword}
    return {tag: by_keyword[keyword] for keyword, tag in tags.items() if tag is not None}


def _keep_numbers(dataset: Dataset, element: DataElement, _: Collection[str]) -> None:
    try:
        proper = all(math.isfinite(float(one)) for one in _several(element.value))
    except (TypeError, ValueError):
        proper = False
    if not proper:
        del dataset[element.tag]


def _map_uids(_: Dataset, element: DataElement, __: Collection[str]) -> None:
    mapped = [new_uid(str(one)) for one in _several(element.value)]
    element.value = mapped if len(mapped) != 1 else mapped[0]


def _keep_pointers(dataset: Dataset, element: DataElement, _: Collection[str]) -> None:
    if not all(dictionary_has_tag(int(one)) for one in _several(element.value)):
        del dataset[element.tag]


def _set_to(text: str, _: Dataset, element: DataElement, __: Collection[str]) -> None:
    element.value = text


def _keep_body_part(dataset: Dataset, element: DataElement, _: Collection[str]) -> None:
    # One term of those that the text spells: the attribute holds one.
    found = terms.body_part(str(element.value or "")).split(" ")[0]
    if found in keep_list.TERMS["BodyPartExamined"]:
        element.value = found
    else:
        del dataset[element.tag]


def _keep_known(dataset: Dataset, element: DataElement, vouched: Collection[str]) -> None:
    """Keep defined terms and texts that are vouched for; replace or remove the others."""
    given = [str(one).strip() for one in _several(element.value)]
    kept = [_known(element.keyword, one, vouched) for one in given]
    if given and not any(kept):
        del dataset[element.tag]
    else:
        element.value = kept if len(kept) != 1 else kept[0]


def _known(keyword: str, text: str, vouched: Collection[str]) -> str:
    """A text that cannot hold a name in place of another one; ``""`` if there is none."""
    if not text or (keyword in keep_list.SAID and text in vouched):
        return text
    if term := keep_list.known_text(keyword, text):
        return term
    if keyword in keep_list.TOKENS:
        return pseudonym(text, purpose="token", length=_TOKEN_DIGITS)
    return keep_list.INSTEAD.get(keyword, REMOVED if keyword in keep_list.REQUIRED else "")


def _clean_items(_: Dataset, element: DataElement, vouched: Collection[str]) -> None:
    items = list(element.value)
    for item in items:
        code = _known_code(item, vouched)
        _clean(item, vouched)
        item.update(code)
        if item.get("SegmentLabel") == REMOVED and "SegmentNumber" in item:
            item.SegmentLabel = f"Segment {item.SegmentNumber}"
    if element.keyword == "ContentSequence":
        # Of another kind are names, dates and waves: without their value they say nothing.
        items = [item for item in items if any(name in item for name in _CONTENT)]
    element.value = items


def _known_code(item: Dataset, vouched: Collection[str]) -> Dataset:
    """The code that an item holds, with the standard's own meaning; empty if it holds none.

    What is not of the standard becomes a code of this site that says as much as: it is the same.
    """
    if "CodeMeaning" not in item and "CodeValue" not in item:
        return Dataset()
    scheme, value, meaning = (
        str(item.get(keyword) or "")
        for keyword in ("CodingSchemeDesignator", "CodeValue", "CodeMeaning")
    )
    if known := keep_list.known_code(scheme, value):
        return _code(scheme, value, known[:_MEANING_CHARACTERS])
    if scheme == _OWN_SCHEME and {value, meaning} <= set(vouched):
        return _code(scheme, value, meaning)
    token = pseudonym(value or meaning, purpose="token", length=_TOKEN_DIGITS)
    return _code(_OWN_SCHEME, token, REMOVED)


def _code(scheme: str, value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _clean_pixels(dataset: FileDataset) -> None:
    """Store the values of the pixels and nothing else.

    Bits above and below the stored ones may hold an overlay, the space behind the last pixel and
    the comments of a compressed stream anything.

    Raises:
        PixelError: the pixel data is broken.
    """
    compressed = dataset.file_meta.TransferSyntaxUID.is_compressed
    if compressed and dataset.get("SamplesPerPixel", 1) != 1:
        dataset.decompress(generate_instance_uid=False)
    count = max(1, int(dataset.get("NumberOfFrames") or 1))
    samples = int(dataset.get("SamplesPerPixel") or 1)
    size = dataset.Rows * dataset.Columns * samples * count
    if dataset.BitsAllocated == 1:
        content = _packed_bits(dataset.PixelData, size)
    elif samples == 1:
        content = _grey_values(dataset, count)
    else:
        content = dataset.PixelData[:size]
        if dataset.BitsAllocated != 8 or dataset.BitsStored != 8 or len(content) < size:
            raise pixels.PixelError
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        dataset.PhotometricInterpretation = "MONOCHROME2"  # labels, whose colours go
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OW" if dataset.BitsAllocated > 8 else "OB"
    if compressed and dataset.BitsAllocated > 1:
        dataset.compress(RLELossless, generate_instance_uid=False)


def _packed_bits(content: bytes, size: int) -> bytes:
    """One bit for each pixel; those behind the last one are cleared."""
    kept = np.unpackbits(np.frombuffer(content, np.uint8), count=size, bitorder="little")
    if 8 * len(content) < size:
        raise pixels.PixelError
    return np.packbits(kept, bitorder="little").tobytes()


def _grey_values(dataset: FileDataset, count: int) -> bytes:
    """Values of one sample a pixel, with their lowest bit at 0."""
    allocated, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    top = int(dataset.get("HighBit", stored - 1)) + 1
    if allocated not in _ALLOCATED or not 0 < stored <= top <= allocated:
        raise pixels.PixelError
    kind = "i" if dataset.PixelRepresentation else "u"
    # Decoders know the highest bit only.
    dataset.BitsStored = top
    frames = [pixels.stored_values(dataset, frame) >> (top - stored) for frame in range(count)]
    dataset.BitsStored, dataset.HighBit = stored, stored - 1
    return b"".join(frame.astype(f"<{kind}{allocated // 8}").tobytes() for frame in frames)


def _save(dataset: FileDataset, path: Path) -> Path:
    """Under a temporary name first, readable by this user alone."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, partial_name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            dataset.save_as(file, enforce_file_format=True)
            file.flush()
            os.fsync(file.fileno())
        Path(partial_name).replace(path)
    except BaseException:
        Path(partial_name).unlink(missing_ok=True)
        raise
    return path
