"""Folder → series, from headers alone: what is there, and what is wrong with it.

Files are judged by content, never by name. A DICOMDIR is not followed: the files are read
themselves. Nothing that a file holds stops the scan.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from nestseg_prep import affine as affines
from nestseg_prep import nifti_header, picture
from nestseg_prep.dicom import files, grouping, headers, judge, kinds
from nestseg_prep.dicom.findings import Code, Finding
from nestseg_prep.dicom.headers import Header, Pixels
from nestseg_prep.dicom.references import OtherFile, ScanResult, SeriesRef
from nestseg_prep.errors import InputError

__all__ = ["OtherFile", "ScanResult", "SeriesRef", "scan"]

_MEDIA_DIRECTORY: Final = "1.2.840.10008.1.3.10"
_ANALYZE_SUFFIXES: Final = (".hdr", ".hdr.gz", ".img", ".img.gz")


class _Entry(NamedTuple):
    path: Path
    name: str
    """Path relative to the root, with ``/``: the part of a path that does not depend on where
    the data happen to lie."""


def scan(
    root: Path | Sequence[Path],
    *,
    on_file: Callable[[int], None] | None = None,
    pictures: bool = False,
) -> ScanResult:
    """Finds every DICOM series and NIfTI image below one or more folders.

    Args:
        root: folders (walked in full, links followed once) or files.
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
    for count, entry in enumerate(_walk(roots), start=1):
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
        series += judge.judge_series(group, _pixel_digest)
    series = _with_damaged_neighbours(series, others)
    return ScanResult(
        tuple(sorted(_with_unique_keys(series), key=lambda ref: (ref.kind, ref.key))),
        tuple(sorted(others, key=lambda other: str(other.path))),
    )


def _walk(roots: Sequence[Path]) -> Iterator[_Entry | OtherFile]:
    """Every regular file once, however many links lead to it."""
    seen: set[tuple[int, int]] = set()
    for root in roots:
        if not root.exists():
            msg = f"{root.name}: no such file or folder; check the path"
            raise InputError(msg)
        yield from _visit(root, root.name if root.is_file() else "", seen)


def _visit(path: Path, name: str, seen: set[tuple[int, int]]) -> Iterator[_Entry | OtherFile]:
    try:
        status = path.stat()
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        if stat.S_ISREG(status.st_mode):
            yield _Entry(path, name)
        elif stat.S_ISDIR(status.st_mode):
            with os.scandir(path) as entries:
                children = sorted(entry.name for entry in entries)
            for child in children:
                yield from _visit(path / child, f"{name}/{child}" if name else child, seen)
        else:
            yield OtherFile(path, Finding(Code.NOT_A_REGULAR_FILE))
    except PermissionError:
        yield OtherFile(path, Finding(Code.PERMISSION_DENIED))
    except OSError:
        # A link to nothing or to itself, or gone since the folder was listed.
        yield OtherFile(path, Finding(Code.NOT_A_REGULAR_FILE))


def _classify(entry: _Entry) -> Header | SeriesRef | OtherFile:
    lower = entry.path.name.lower()
    try:
        if lower.endswith(nifti_header.SUFFIXES):
            return _nifti_ref(entry)
        header = headers.read_header(entry.path)
    except files.NotDicomError:
        analyze = lower.endswith(_ANALYZE_SUFFIXES)
        code = Code.ANALYZE if analyze else Code.NOT_AN_IMAGE_FILE
        return OtherFile(entry.path, Finding(code))
    except files.DamagedFileError as error:
        return OtherFile(entry.path, Finding(Code.UNREADABLE, str(error)))
    except PermissionError:
        return OtherFile(entry.path, Finding(Code.PERMISSION_DENIED))
    except OSError as error:
        return OtherFile(entry.path, Finding(Code.UNREADABLE, type(error).__name__))
    return _sorted_out(entry, header)


def _sorted_out(entry: _Entry, header: Header) -> Header | OtherFile:
    """Keeps headers of images; a slice whose pixels are missing stays with its series."""
    if header.sop_class == _MEDIA_DIRECTORY:
        return OtherFile(entry.path, Finding(Code.DICOMDIR))
    if header.pixels is Pixels.ABSENT and not header.series_uid:
        # SeriesInstanceUID stands in every object, behind what would tell its kind for certain.
        return OtherFile(entry.path, Finding(Code.UNREADABLE, "header ends early"))
    if header.pixels is Pixels.ABSENT and not kinds.may_be_volume(header):
        return OtherFile(entry.path, Finding(Code.NO_PIXELS))
    return header


def _nifti_ref(entry: _Entry) -> SeriesRef:
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


def _picture_ref(entry: _Entry) -> SeriesRef | OtherFile:
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


def _with_damaged_neighbours(
    series: Sequence[SeriesRef], others: Sequence[OtherFile]
) -> list[SeriesRef]:
    """Warns where an unreadable DICOM file might have been the end slice of a series."""
    damaged = Counter(
        other.path.parent for other in others if other.finding.code is Code.UNREADABLE
    )
    result = []
    for ref in series:
        folders = {path.parent for path in ref.files}
        count = sum(damaged[folder] for folder in folders)
        if count and ref.kind == "dicom":
            result.append(ref.noting(Finding(Code.UNREADABLE_NEIGHBOUR, f"{count} files")))
        else:
            result.append(ref)
    return result


def _with_unique_keys(series: Sequence[SeriesRef]) -> list[SeriesRef]:
    """Numbers the keys that two roots gave to files of the same relative name."""
    used: Counter[str] = Counter()
    result = []
    for ref in series:
        used[ref.key] += 1
        number = used[ref.key]
        result.append(ref if number == 1 else ref.renamed(f"{ref.key}-{number}"))
    return result
