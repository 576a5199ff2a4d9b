"""Folder → series, from headers alone: what is there, and what is wrong with it.

Files are judged by content, never by name. A DICOMDIR is not followed: the files are read
themselves. Nothing that a file holds stops the scan.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from nestseg_prep import affine as affines
from nestseg_prep import nifti_header, picture
from nestseg_prep.dicom import files, grouping, headers, judge, kinds, neighbours, walk
from nestseg_prep.dicom.findings import Code, Finding
from nestseg_prep.dicom.headers import Header
from nestseg_prep.dicom.lengths import Pixels
from nestseg_prep.dicom.neighbours import TOO_SHORT
from nestseg_prep.dicom.references import OtherFile, ScanResult, SeriesRef
from nestseg_prep.dicom.rules import SAFE, Rules
from nestseg_prep.dicom.walk import Entry
from nestseg_prep.errors import InputError

__all__ = ["OtherFile", "Rules", "ScanResult", "SeriesRef", "scan"]

_MEDIA_DIRECTORY: Final = "1.2.840.10008.1.3.10"
_PREAMBLE_BYTES: Final = 132
_ANALYZE_SUFFIXES: Final = (".hdr", ".hdr.gz", ".img", ".img.gz")


def scan(
    root: Path | Sequence[Path],
    *,
    rules: Rules = SAFE,
    unpack_to: Path | None = None,
    on_file: Callable[[int], None] | None = None,
    pictures: bool = False,
) -> ScanResult:
    """Finds every DICOM series and NIfTI image below one or more folders.

    Args:
        root: folders (walked in full, links followed once) or files.
        rules: what is refused.
        unpack_to: folder into which zip and tar files are unpacked, which has to stay for as long
            as their series are read; without it, archives are only named.
        on_file: called with the number of files seen so far, for a progress display.
        pictures: take PNG, TIFF and JPEG as images too; in a hospital folder they are documents.

    Returns:
        Series in the order of their keys, then files that belong to none.

    Raises:
        InputError: a root does not exist.
    """
    roots = [root] if isinstance(root, Path) else list(root)
    found: list[Header] = []
    series: list[SeriesRef] = []
    others: list[OtherFile] = []
    entries = walk.files_below(roots, unpack_to)
    for count, entry in enumerate(entries, start=1):
        if isinstance(entry, OtherFile):
            item: Header | SeriesRef | OtherFile = entry
        elif pictures and entry.path.suffix.lower() in picture.SUFFIXES:
            item = _picture_ref(entry)
        else:
            item = _classify(entry)
        if isinstance(item, Header):
            found.append(item)
        elif isinstance(item, SeriesRef):
            series.append(item)
        else:
            others.append(item)
        if on_file is not None:
            on_file(count)
    for group in grouping.by_series(found):
        series += judge.judge_series(group, _pixel_digest, rules)
    series = neighbours.warned(series, others)
    return ScanResult(
        tuple(sorted(_with_unique_keys(series), key=lambda ref: (ref.kind, ref.key))),
        tuple(sorted(others, key=lambda other: str(other.path))),
    )


def _classify(entry: Entry) -> Header | SeriesRef | OtherFile:
    lower = entry.path.name.lower()
    try:
        if lower.endswith(nifti_header.SUFFIXES):
            return _nifti_ref(entry)
        header = headers.read_header(entry.path)
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
    return _sorted_out(entry, header)


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
    except InputError as error:
        # The message begins with the file's name, which may be a patient's.
        findings = (Finding(Code.NIFTI_REFUSED, str(error).removeprefix(f"{entry.path.name}: ")),)
    except PermissionError:
        findings = (Finding(Code.PERMISSION_DENIED),)
    affine = header.affine if header else None
    spacing = None if affine is None else affines.spacing(affine)
    thickest = 2 if spacing is None else max(range(3), key=lambda axis: (spacing[axis], axis))
    return SeriesRef(
        kind="nifti",
        key=judge.short_hash(entry.name),
        study_key="",
        series_uid="",
        study_uid="",
        modality=None,
        body_part="",
        orientation=None if affine is None else affines.orientation(affine, thickest),
        shape=header.shape if header else None,
        spacing=spacing,
        affine=affine,
        files=(entry.path,),
        findings=findings,
    )


def _picture_ref(entry: Entry) -> SeriesRef | OtherFile:
    """A picture as a series of its own."""
    try:
        shape = picture.picture_shape(entry.path)
    except InputError:
        return OtherFile(entry.path, Finding(Code.NOT_AN_IMAGE_FILE))
    return SeriesRef(
        kind="picture",
        key=judge.short_hash(entry.name),
        study_key="",
        series_uid="",
        study_uid="",
        modality=None,
        body_part="",
        orientation=None,
        shape=shape,
        spacing=None,
        affine=None,
        files=(entry.path,),
    )


def _pixel_digest(one: headers.Slice) -> str:
    """Digest of a slice's pixel data as stored; a copy in another encoding counts as different."""
    with files.open_plain(one.header.path) as file:
        pixels = files.read_dataset(file).get("PixelData") or b""
    return f"{hashlib.sha256(pixels).hexdigest()} {one.frame.index}"


def _with_unique_keys(series: Sequence[SeriesRef]) -> list[SeriesRef]:
    """Numbers the keys that two roots gave to files of the same relative name."""
    used: Counter[str] = Counter()
    result = []
    for ref in series:
        used[ref.key] += 1
        number = used[ref.key]
        result.append(ref if number == 1 else ref.renamed(f"{ref.key}-{number}"))
    return result
