"""DICOM files without what names their patient: PS3.15's Basic Profile, with keyed UIDs.

What happens to each attribute is dicom-anonymizer's table of PS3.15 E.1-1. Its own walk applies
the table to the top level of a data set alone and makes new random UIDs in each run; this one goes
into every sequence, and its UIDs are the same in every run with the same site key, so that a
result made today belongs to images that were sent last year. Pixels are never changed: what may
show a name is refused.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeAlias
from uuid import UUID

from pydicom.datadict import dictionary_has_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.uid import UID, SegmentationStorage

from nestseg_prep.dicom import files, kinds
from nestseg_prep.errors import InputError
from nestseg_prep.site_key import keyed_hash

Action: TypeAlias = Callable[[Dataset, tuple[int, int]], None]

MAKER: Final = "nestseg"
_TABLE: Final = "dicomfields_2026c"
_STANDARD_ROOT: Final = "1.2.840.10008."
_LABEL_MAP_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.66.7"
_SEGMENTATIONS: Final = (SegmentationStorage, _LABEL_MAP_STORAGE)
_CONTENT_SEQUENCE: Final = (0x0040, 0xA730)
_PROFILE: Final = (("113100", "Basic Application Confidentiality Profile"),)
_CLEAN_CONTENT: Final = ("113104", "Clean Structured Content Option")
_HEADS: Final = ("HEAD", "BRAIN", "SKULL", "FACE", "NECK", "SINUS", "ORBIT", "JAW", "EAR", "IAC")


class Doubt(StrEnum):
    """Why a file is not passed on."""

    NO_IMAGE = "holds text or a document, which may name the patient"
    BURNT_IN = "says that text is burnt into its pixels"
    FEATURES = "says that the patient can be recognised in its pixels"
    SCREEN = "is a screen capture or in colour: its pixels may show a name"
    UNREADABLE = "is damaged"


class DoubtError(Exception):
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
    source: Path, place: Callable[[Dataset], Path], *, pixels_checked: bool = False
) -> Written:
    """Write one DICOM file without what names its patient.

    A file that went through here before is copied as it is: its UIDs must not change twice.

    Args:
        source: a DICOM file.
        place: where the file goes, given the data set as it is written.
        pixels_checked: somebody looked at the pixels and found no name and no face.

    Raises:
        DoubtError: the file may show or tell who the patient is, or cannot be read.
        NotDicomError: it is no DICOM.
    """
    try:
        with files.open_plain(source) as file:
            dataset = files.read_dataset(file)
        if doubt := _doubt(dataset, pixels_checked=pixels_checked):
            raise DoubtError(doubt)
        part = str(dataset.get("BodyPartExamined", "")).upper()
        is_volume = dataset.get("SOPClassUID") in kinds.VOLUME_CLASSES
        face = is_volume and (not part or any(head in part for head in _HEADS))
        if not _is_done(dataset):
            deidentify(dataset)
        return Written(_save(dataset, place(dataset)), face)
    except InputError:  # no key or no library: a fault of the site, not of the file
        raise
    except (files.DamagedFileError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise DoubtError(Doubt.UNREADABLE) from error


def deidentify(dataset: FileDataset) -> None:
    """Take out of a data set what names its patient, in place.

    Raises:
        InputError: dicom-anonymizer is not installed, or there is no site key.
    """
    person = str(dataset.get("PatientID") or dataset.get("StudyInstanceUID") or "")
    pseudonym = keyed_hash(person, purpose="patient").hex()[:12].upper()
    structured = _CONTENT_SEQUENCE in dataset
    syntax = dataset.file_meta.TransferSyntaxUID
    _clean(dataset)
    dataset.PatientID = dataset.PatientName = pseudonym
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = f"{MAKER}: PS3.15 Basic Profile, keyed UIDs"
    codes = (*_PROFILE, _CLEAN_CONTENT) if structured else _PROFILE
    dataset.DeidentificationMethodCodeSequence = [_code(*code) for code in codes]
    dataset.LongitudinalTemporalInformationModified = "REMOVED"
    # What the sender wrote into the file's own header and preamble goes too.
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.preamble = b"\0" * 128


def new_uid(uid: str) -> UID:
    """The UID that stands for another one at this site; UIDs of the standard stay."""
    if not uid or uid.startswith(_STANDARD_ROOT):
        return UID(uid)
    digest = keyed_hash(uid, purpose="uid")
    return UID(f"2.25.{UUID(bytes=digest[:16], version=5).int}")


def folder_for(out: Path) -> Callable[[Dataset], Path]:
    """``out/STUDY/SERIES/OBJECT.dcm``, named by keyed hashes of the UIDs as they are written."""

    def place(dataset: Dataset) -> Path:
        names = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        study, series, one = (keyed_hash(str(dataset.get(name, ""))).hex()[:12] for name in names)
        return out / study / series / f"{one}.dcm"

    return place


def _doubt(dataset: Dataset, *, pixels_checked: bool) -> Doubt | None:
    """Why a data set must not be passed on, or ``None``."""
    sop_class = dataset.get("SOPClassUID", "")
    own = dataset.get("Manufacturer") == MAKER  # reports of codes, numbers and references
    if sop_class in _SEGMENTATIONS or (own and _CONTENT_SEQUENCE in dataset):
        return None
    if "PixelData" not in dataset:
        return Doubt.NO_IMAGE
    return None if pixels_checked else _doubt_of_pixels(dataset)


def _doubt_of_pixels(dataset: Dataset) -> Doubt | None:
    if dataset.get("BurnedInAnnotation") == "YES":
        return Doubt.BURNT_IN
    if dataset.get("RecognizableVisualFeatures") == "YES":
        return Doubt.FEATURES
    captured = any("SCREEN" in str(value).upper() for value in dataset.get("ImageType") or ())
    colour = dataset.get("SamplesPerPixel", 1) != 1
    is_slice = dataset.get("SOPClassUID") in kinds.VOLUME_CLASSES
    return None if is_slice and not captured and not colour else Doubt.SCREEN


def _is_done(dataset: Dataset) -> bool:
    method = str(dataset.get("DeidentificationMethod", ""))
    return dataset.get("PatientIdentityRemoved") == "YES" and method.startswith(f"{MAKER}:")


def _clean(dataset: Dataset) -> None:
    for element in list(_decoded(dataset)):
        tag = (element.tag.group, element.tag.element)
        known = dictionary_has_tag(element.tag) and not element.tag.is_private
        if not known or element.VR in ("UN", "PN"):
            del dataset[element.tag]
            continue
        action = _action(tag)
        if element.VR == "UI" and action != "delete":
            element.value = _mapped(element.value)
        elif action == "delete":
            del dataset[element.tag]
        elif element.VR == "SQ":
            _clean_sequence(element, action, tag)
        elif action:
            _blank(dataset, element, action)


def _decoded(dataset: Dataset) -> Iterator[DataElement]:
    """Each element; one whose value cannot be decoded is dropped."""
    for tag in list(dataset.keys()):
        try:
            yield dataset[tag]
        except (ValueError, TypeError, NotImplementedError, KeyError, AttributeError):
            del dataset[tag]


def _clean_sequence(element: DataElement, action: str, tag: tuple[int, int]) -> None:
    keeps_references = action in ("", "delete_or_empty_or_replace_UID")
    if not keeps_references and tag != _CONTENT_SEQUENCE:
        element.value = []
        return
    for item in element.value:
        _clean(item)


def _blank(dataset: Dataset, element: DataElement, action: str) -> None:
    from dicomanonymizer import simpledicomanonymizer as table  # noqa: PLC0415  an extra

    change = (
        table.empty_element if action in ("empty", "delete_or_empty") else (table.replace_element)
    )
    try:
        change(element)
    except NotImplementedError:
        del dataset[element.tag]


def _mapped(value: Any) -> Any:
    if isinstance(value, MultiValue | list):
        return [new_uid(str(one)) for one in value]
    return new_uid(str(value or ""))


def _action(tag: tuple[int, int]) -> str:
    """What PS3.15 does to a tag, by the name of the table's function; ``""`` for nothing."""
    single, ranges = _actions()
    if tag in single:
        return single[tag]
    group, number = tag
    for (in_group, in_number, group_mask, number_mask), name in ranges.items():
        if group & group_mask == in_group & group_mask and (
            number & number_mask == in_number & number_mask
        ):
            return name
    return ""


@lru_cache
def _actions() -> tuple[dict[tuple[int, int], str], dict[tuple[int, int, int, int], str]]:
    try:
        from dicomanonymizer.simpledicomanonymizer import (  # noqa: PLC0415  an extra
            initialize_actions,
        )
    except ImportError:
        raise InputError(
            "de-identification needs dicom-anonymizer; run `pip install 'nestseg[deidentify]'`"
        ) from None
    named = {tag: action.__name__ for tag, action in initialize_actions(_TABLE).items()}
    single = {tag: name for tag, name in named.items() if len(tag) == 2}
    return single, {tag: name for tag, name in named.items() if len(tag) == 4}


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code


def _save(dataset: FileDataset, path: Path) -> Path:
    """Under a temporary name first, readable by this user alone."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            dataset.save_as(file, enforce_file_format=True)
            file.flush()
            os.fsync(file.fileno())
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    return path
