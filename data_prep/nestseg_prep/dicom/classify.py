"""One file → what it is: a DICOM header, an image that is a series by itself, or neither."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np

from nestseg_prep import affine as affines
from nestseg_prep import nifti_header, picture, volume_files
from nestseg_prep.dicom import files, formats, headers, judge, kinds
from nestseg_prep.dicom.findings import Code, Finding, unreadable
from nestseg_prep.dicom.headers import Header
from nestseg_prep.dicom.lengths import Pixels
from nestseg_prep.dicom.neighbours import TOO_SHORT
from nestseg_prep.dicom.pixels import PixelError, stored_values
from nestseg_prep.dicom.references import OtherFile, SeriesRef
from nestseg_prep.dicom.walk import Entry
from nestseg_prep.errors import InputError

ReadHeader: TypeAlias = Callable[[Path], Header]

_MEDIA_DIRECTORY: Final = "1.2.840.10008.1.3.10"
_PREAMBLE_BYTES: Final = 132
_ANALYZE_SUFFIXES: Final = (".hdr", ".hdr.gz", ".img", ".img.gz")


def classify(
    entry: Entry, *, pictures: bool, read_header: ReadHeader = headers.read_header
) -> Header | SeriesRef | OtherFile:
    """Judges a file by its content, never by its name alone. Nothing that it holds is raised.

    Args:
        entry: the file.
        pictures: take PNG, TIFF and JPEG as images.
        read_header: how a DICOM header is read.
    """
    try:
        if pictures and entry.path.suffix.lower() in picture.SUFFIXES:
            return _picture_ref(entry)
        if entry.path.name.lower().endswith(nifti_header.SUFFIXES):
            return _named_nifti(entry, read_header)
        try:
            return _dicom(entry, read_header)
        except files.NotDicomError:
            return _neither(entry)
    except OSError as error:
        return OtherFile(entry.path, unreadable(error))


def _dicom(entry: Entry, read_header: ReadHeader) -> Header | OtherFile:
    """A DICOM file, or why it is none that we use.

    Raises:
        NotDicomError: by its content the file is not DICOM.
        OSError: the file cannot be read.
    """
    try:
        return _sorted_out(entry, read_header(entry.path))
    except files.DamagedFileError as error:
        mislabelled = files.is_mislabelled(entry.path)
        damage = Finding(Code.UNREADABLE, str(error))
        return OtherFile(entry.path, Finding(Code.WRONG_TRANSFER_SYNTAX) if mislabelled else damage)


def _named_nifti(entry: Entry, read_header: ReadHeader) -> Header | SeriesRef | OtherFile:
    """A file with the name of NIfTI; what it holds is looked at only where it cannot be read."""
    ref = _file_ref(entry, b"")
    if ref.accepted or (ref.refusal and ref.refusal.code is Code.UNREADABLE):
        return ref
    head = formats.read_head(entry.path)
    if files.is_dicom(head):
        return _dicom(entry, read_header)
    found = None if formats.is_nifti(head) else formats.finding(head, entry.path.name)
    if found is None:
        return ref
    return replace(ref, findings=(found,)) if found.refuses else OtherFile(entry.path, found)


def _neither(entry: Entry) -> SeriesRef | OtherFile:
    """A file that is not DICOM and does not have the name of NIfTI: by its first bytes."""
    head = formats.read_head(entry.path)
    if formats.is_nifti(head) or formats.is_volume(head):
        return _file_ref(entry, head)
    if entry.path.name.lower().endswith(_ANALYZE_SUFFIXES):
        return OtherFile(entry.path, Finding(Code.ANALYZE))
    short = Finding(Code.NOT_AN_IMAGE_FILE, TOO_SHORT if len(head) < _PREAMBLE_BYTES else "")
    return OtherFile(entry.path, formats.finding(head, entry.path.name) or short)


def pixel_digest(one: headers.Slice) -> str:
    """Digest of a slice's stored values: copies in two encodings are alike.

    Pixel data that cannot be decoded count as they are stored.
    """
    try:
        with files.open_plain(one.header.path) as file:
            dataset = files.read_dataset(file)
    except (OSError, files.NotDicomError, files.DamagedFileError):
        # Its header was read a moment ago. It is a copy of nothing: nobody can compare it.
        return str(one.header.path)
    try:
        pixels = stored_values(dataset, one.frame.index).astype(np.int64).tobytes()
    except PixelError:
        pixels = bytes(dataset.get("PixelData") or b"") + one.frame.index.to_bytes(8)
    scale = f"{one.frame.slope} {one.frame.intercept}"
    return f"{hashlib.sha256(pixels).hexdigest()} {scale}"


def _sorted_out(entry: Entry, header: Header) -> Header | OtherFile:
    """Keeps headers of images; a slice whose pixels are missing stays with its series.

    Raises:
        DamagedFileError: the header breaks off.
    """
    if header.sop_class == _MEDIA_DIRECTORY:
        return OtherFile(entry.path, Finding(Code.DICOMDIR))
    if header.pixels is Pixels.ABSENT and not header.series_uid:
        # SeriesInstanceUID stands in every object, behind what would tell its kind for certain.
        raise files.DamagedFileError("header ends early")
    if header.pixels is Pixels.ABSENT and not kinds.may_be_volume(header):
        return OtherFile(entry.path, Finding(Code.NO_PIXELS))
    return header


def _file_ref(entry: Entry, head: bytes) -> SeriesRef:
    """A file of a volume as a series of its own, judged by its header; NIfTI without a ``head``."""
    header = None
    findings: tuple[Finding, ...] = ()
    holders: tuple[Path, ...] = (entry.path,)
    try:
        if formats.is_volume(head):
            declared = volume_files.read_volume_header(entry.path)
            header, holders = declared.header, tuple(dict.fromkeys((entry.path, declared.data)))
        else:
            header = nifti_header.read_header(entry.path)
        if header.straightened:
            findings = (Finding(Code.NIFTI_STRAIGHTENED),)
        if header.result:
            findings = (Finding(Code.RESULT),)
        if header.unit != "mm":
            findings = (*findings, Finding(Code.NIFTI_UNIT, header.unit))
    except nifti_header.ColourError as error:
        findings = (Finding(Code.COLOUR, error.kind),)
    except InputError as error:
        # The message begins with the file's name, which may be a patient's.
        findings = (Finding(Code.NIFTI_REFUSED, str(error).removeprefix(f"{entry.path.name}: ")),)
    except OSError as error:
        findings = (unreadable(error),)
    affine = header.affine if header else None
    spacing = None if affine is None else affines.spacing(affine)
    thickest = 2 if spacing is None else max(range(3), key=lambda axis: (spacing[axis], axis))
    return replace(
        _without_tags(entry, "nifti"),
        orientation=None if affine is None else affines.orientation(affine, thickest),
        shape=header.shape if header else None,
        spacing=spacing,
        affine=affine,
        files=holders,
        findings=findings,
    )


def _picture_ref(entry: Entry) -> SeriesRef | OtherFile:
    """A picture as a series of its own."""
    try:
        shape = picture.picture_shape(entry.path)
        if picture.is_result(entry.path):
            return OtherFile(entry.path, Finding(Code.RESULT))
    except InputError:
        return OtherFile(entry.path, Finding(Code.NOT_AN_IMAGE_FILE))
    return replace(_without_tags(entry, "picture"), shape=shape)


def _without_tags(entry: Entry, kind: Literal["nifti", "picture"]) -> SeriesRef:
    """A file that is a series of its own and says nothing of study, modality or body part."""
    return SeriesRef(
        kind=kind,
        key=judge.short_hash(entry.name),
        study_key="",
        series_uid="",
        study_uid="",
        modality=None,
        body_part="",
        orientation=None,
        shape=None,
        spacing=None,
        affine=None,
        files=(entry.path,),
    )
