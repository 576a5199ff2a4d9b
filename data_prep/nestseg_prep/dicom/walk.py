"""Folders, files and archives → every regular file once."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from nestseg_prep.dicom import archives
from nestseg_prep.dicom.findings import Code, Finding
from nestseg_prep.dicom.references import OtherFile
from nestseg_prep.errors import InputError


class Entry(NamedTuple):
    """A regular file.

    Attributes:
        path: where it lies.
        name: path relative to the root, with ``/``: the part that does not depend on where the
            data happen to lie; for a file from an archive, where it lay in that.
    """

    path: Path
    name: str


def files_below(roots: Sequence[Path], unpack_to: Path | None) -> Iterator[Entry | OtherFile]:
    """Every regular file once, in the same order always, and what is none.

    Args:
        roots: folders or files.
        unpack_to: where the files of archives are put; without it archives are only named.

    Raises:
        InputError: a root does not exist.
    """
    return _with_archives(_walk(roots), unpack_to)


def _walk(roots: Sequence[Path]) -> Iterator[Entry | OtherFile]:
    """Every regular file once, however many links lead to it."""
    seen: set[tuple[int, int]] = set()
    for root in roots:
        if not root.exists():
            msg = f"{root.name}: no such file or folder; check the path"
            raise InputError(msg)
        yield from _visit(root, root.name if root.is_file() else "", seen)


def _visit(path: Path, name: str, seen: set[tuple[int, int]]) -> Iterator[Entry | OtherFile]:
    try:
        status = path.stat()
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        if stat.S_ISREG(status.st_mode):
            yield Entry(path, name)
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


def _with_archives(
    entries: Iterable[Entry | OtherFile], unpack_to: Path | None
) -> Iterator[Entry | OtherFile]:
    """The files in place of the archives that hold them."""
    for number, entry in enumerate(entries):
        if isinstance(entry, OtherFile) or not archives.is_archive(entry.path):
            yield entry
        elif unpack_to is None:
            yield OtherFile(entry.path, Finding(Code.ARCHIVE))
        else:
            yield from _unpacked(entry, unpack_to / f"{number}")


def _unpacked(entry: Entry, folder: Path) -> Iterator[Entry | OtherFile]:
    try:
        members = archives.unpack(entry.path, folder)
    except archives.ArchiveError as error:
        yield OtherFile(entry.path, Finding(Code.ARCHIVE_REFUSED, str(error)))
    except PermissionError:
        yield OtherFile(entry.path, Finding(Code.PERMISSION_DENIED))
    except OSError as error:
        yield OtherFile(entry.path, Finding(Code.UNREADABLE, type(error).__name__))
    else:
        for path, name in members:
            if archives.is_archive(path):
                yield OtherFile(path, Finding(Code.ARCHIVE))
            else:
                yield Entry(path, f"{entry.name}/{name}")
