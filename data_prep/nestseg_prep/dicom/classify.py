"""One file → what it is: a DICOM header, an image that is a series by itself, or neither."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np

from nestseg_prep import affine as affines
from nestseg_prep import nifti_header, picture
from nestseg_prep.dicom import files, headers, judge, kinds
from nestseg_prep.dicom.findings import Code, Finding
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
    lower = entry.path.name.lower()
    try:
        if pictures and entry.path.suffix.lower() in picture.SUFFIXES:
            return _picture_ref(entry)
        is_nifti = lower.endswith(nifti_header.SUFFIXES)
        return _nifti_ref(entry) if is_nifti else _sorted_out(entry, read_header(entry.path))
    except files.NotDicomError:
        analyze = lower.endswith(_ANALYZE_SUFFIXES)
        short = entry.path.stat().st_size < _PREAMBLE_BYTES
        foreign = Finding(Code.NOT_AN_IMAGE_FILE, TOO_SHORT if short else "")
        return OtherFile(entry.path, Finding(Code.ANALYZE) if analyze else foreign)
    except files.DamagedFileError as error:
        return OtherFile(entry.path, Finding(Code.UNREADABLE, str(error)))
    except PermissionError:
        return OtherFile(entry.path, Finding(Code.PERMISSION_DENIED))
    except OSError as error:
        return OtherFile(entry.path, Finding(Code.UNREADABLE, type(error).__name__))


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
    """Keeps headers of images; a slice whose pixels are missing stays with its series."""
    if header.sop_class == _MEDIA_DIRECTORY:
        return OtherFile(entry.path, Finding(Code.DICOMDIR))
    if header.pixels is Pixels.ABSENT and not header.series_uid:
        # SeriesInstanceUID stands in every object, behind what would tell its kind for certain.
        return OtherFile(entry.path, Finding(Code.UNREADABLE, "header ends early"))
    if header.pixels is Pixels.ABSENT and not kinds.may_be_volume(header):
        return OtherFile(entry.path, Finding(Code.NO_PIXELS))
    return header


def _nifti_ref(entry: Entry) -> SeriesRef:
    """A NIfTI file as a series of its own, judged by its header."""
    header = None
    findings: tuple[Finding, ...] = ()
    try:
        header = nifti_header.read_header(entry.path)
        if header.straightened:
            findings = (Finding(Code.NIFTI_STRAIGHTENED),)
        if header.result:
            findings = (Finding(Code.RESULT),)
    except InputError as error:
        # The message begins with the file's name, which may be a patient's.
        findings = (Finding(Code.NIFTI_REFUSED, str(error).removeprefix(f"{entry.path.name}: ")),)
    except PermissionError:
        findings = (Finding(Code.PERMISSION_DENIED),)
    affine = header.affine if header else None
    spacing = None if affine is None else affines.spacing(affine)
    thickest = 2 if spacing is None else max(range(3), key=lambda axis: (spacing[axis], axis))
    return replace(
        _without_tags(entry, "nifti"),
        orientation=None if affine is None else affines.orientation(affine, thickest),
        shape=header.shape if header else None,
        spacing=spacing,
        affine=affine,
        findings=findings,
    )


def _picture_ref(entry: Entry) -> SeriesRef | OtherFile:
    """A picture as a series of its own."""
    try:
        shape = picture.picture_shape(entry.path)
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
