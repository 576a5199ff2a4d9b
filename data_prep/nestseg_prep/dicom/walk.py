"""Folders, files and archives → every regular file once."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

from nestseg_prep.dicom import archives
from nestseg_prep.dicom.findings import Code, Finding, unreadable
from nestseg_prep.dicom.references import OtherFile
from nestseg_prep.errors import InputError

# Errors of a broken link or a missing path: no folder can have been missed there.
_LEADS_NOWHERE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Entry(NamedTuple):
    """A regular file.

    Attributes:
        path: where it lies.
        name: path relative to the root, with ``/``: the part that does not depend on where the
            data happen to lie; for a file from an archive, where it lay in that.
    """

    path: Path
    name: str


class _Pending(NamedTuple):
    """What is to be visited; ``kind`` is what its folder said it is."""

    path: Path
    name: str
    kind: Literal["file", "folder", "unknown"]


def files_below(roots: Sequence[Path], unpack_to: Path | None) -> Iterator[Entry | OtherFile]:
    """Yields every regular file once, always in the same order, and whatever cannot be read.

    Args:
        roots: folders or files.
        unpack_to: where the files of archives are put; without it archives are only named.

    Raises:
        InputError: a root does not exist.
    """
    return _with_archives(_walk(roots), unpack_to)


def _walk(roots: Sequence[Path]) -> Iterator[Entry | OtherFile]:
    """Every regular file once, however many links lead to it.

    Keeps a list instead of calling itself: folders may be nested deeper than Python's stack.
    """
    seen: set[tuple[int, int]] = set()
    for root in roots:
        pending = [_Pending(root, "", "unknown")]
        while pending:
            one = pending.pop()
            try:
                status = one.path.stat()
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
                if stat.S_ISDIR(status.st_mode):
                    one = one._replace(kind="folder")
                    pending += _children(one)
                elif stat.S_ISREG(status.st_mode):
                    yield Entry(one.path, one.name or root.name)
                else:
                    yield OtherFile(one.path, Finding(Code.NOT_A_REGULAR_FILE))
            except OSError as error:
                if one.path == root and error.errno in _LEADS_NOWHERE:
                    msg = f"{root.name}: no such file or folder; check the path"
                    raise InputError(msg) from error
                yield _unread(one, error)


def _children(folder: _Pending) -> list[_Pending]:
    """What lies in a folder, the first name last; nothing of it where the listing breaks off.

    Half a listing would make half a series look whole.
    """
    with os.scandir(folder.path) as entries:
        kinds = {entry.name: _kind(entry) for entry in entries}
    above = f"{folder.name}/" if folder.name else ""
    return [
        _Pending(folder.path / name, f"{above}{name}", kinds[name])
        for name in sorted(kinds, reverse=True)
    ]


def _kind(entry: os.DirEntry[str]) -> Literal["file", "folder", "unknown"]:
    try:
        if entry.is_symlink():
            return "unknown"
        return "folder" if entry.is_dir(follow_symlinks=False) else "file"
    except OSError:
        return "unknown"


def _unread(one: _Pending, error: OSError) -> OtherFile:
    nothing = one.kind == "unknown" and error.errno in _LEADS_NOWHERE
    return OtherFile(one.path, unreadable(error), "file" if nothing else one.kind)


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
    except OSError as error:
        yield OtherFile(entry.path, unreadable(error), "folder")
    else:
        for path, name in members:
            if archives.is_archive(path):
                yield OtherFile(path, Finding(Code.ARCHIVE))
            else:
                yield Entry(path, f"{entry.name}/{name}")
