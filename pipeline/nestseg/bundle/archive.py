"""A bundle as a zip file: written with the same bytes every time, unpacked without trust."""

from __future__ import annotations

import lzma
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from nestseg_prep.errors import InputError

LARGEST = 8 * 2**30
MOST_FILES = 10_000
_LONGEST_NAME = 1000
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest date that a zip file can hold
_DAMAGED = (zipfile.BadZipFile, EOFError, NotImplementedError, lzma.LZMAError, zlib.error, OSError)
_PLAIN_FILE = (stat.S_IFREG | 0o644) << 16


def pack(folder: Path, path: Path) -> None:
    """Write a folder as ``folder.name/…`` into a zip file.

    Nothing is compressed: weights do not shrink, and another zlib would give other bytes.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            inside = f"{folder.name}/{file.relative_to(folder).as_posix()}"
            item = zipfile.ZipInfo(inside, _EPOCH)
            item.external_attr = _PLAIN_FILE
            item.create_system = 3  # the same on every system
            archive.writestr(item, file.read_bytes())


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The folder of a bundle: itself, or a zip file unpacked for as long as it is needed.

    Raises:
        InputError: there is no such thing, it is no zip file, or one that is not safe to unpack.
    """
    if path.is_dir():
        yield path.resolve()
        return
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; check the path")
    with tempfile.TemporaryDirectory(prefix="nestseg-") as scratch:
        try:
            with zipfile.ZipFile(path) as archive:
                top = _top(archive, path)
                archive.extractall(scratch)
        except _DAMAGED as error:
            raise InputError(
                f"{path}: no bundle folder, and no zip file of one; restore the file"
            ) from error
        yield Path(scratch) / top


def _top(archive: zipfile.ZipFile, path: Path) -> str:
    """The one folder that everything lies in, after a look at every entry.

    Raises:
        InputError: an entry would leave it, is a link, or there are too many or too large.
    """
    items = archive.infolist()
    if len(items) > MOST_FILES or sum(item.file_size for item in items) > LARGEST:
        raise InputError(f"{path}: unpacks to more than a bundle holds; do not open it")
    tops = set()
    names = set()
    for item in items:
        why = _unsafe(item)
        if why is None and item.filename.casefold() in names:
            why = "is there twice"
        if why is not None:
            name = "".join(c if c.isprintable() else "?" for c in item.filename)
            raise InputError(f"{path}: {name}: {why}; do not open it")
        names.add(item.filename.casefold())
        tops.add(PurePosixPath(item.filename).parts[0])
    if len(tops) != 1:
        raise InputError(f"{path}: a bundle's zip file holds one folder; pack it again")
    return str(tops.pop())


def _unsafe(item: zipfile.ZipInfo) -> str | None:
    pure = PurePosixPath(item.filename)
    original = item.orig_filename
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        return "leads out of the bundle"
    if any(mark in original for mark in ("\\", ":", "\0")):
        return "leads out of the bundle on some systems"
    if len(item.filename) > _LONGEST_NAME or not item.filename.isprintable():
        return "has a name that is too long, or not plain text"
    if stat.S_ISLNK(item.external_attr >> 16):
        return "is a link"
    if item.flag_bits & 1:
        return "is encrypted"
    return None
