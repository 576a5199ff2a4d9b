"""Zip and tar files → plain files in a folder, with limits on what a hostile archive may do.

Members are written under numbers, never under their names: no name can lead out of the folder, and
none that is a patient's is spelt out on the disk.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, Final, NamedTuple, cast

from nestseg_prep.errors import FileError
from nestseg_prep.volume_files import SUFFIXES as VOLUMES

ZIP_SUFFIXES: Final = (".zip",)
TAR_SUFFIXES: Final = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
SUFFIXES: Final = ZIP_SUFFIXES + TAR_SUFFIXES
# What is recognised by its name keeps the end of it.
_KEPT_SUFFIXES: Final = (".nii", ".nii.gz", ".hdr", ".img", *VOLUMES, *SUFFIXES)
_CHUNK: Final = 2**20
_DIRECTORY_ENTRY_BYTES: Final = 46 + 512
_DISK_SHARE: Final = 0.9


class ArchiveError(FileError):
    """An archive is broken, or asks for more than is safe. The message names no member."""


@dataclass(frozen=True)
class Limits:
    """What an archive may cost.

    Attributes:
        members: files in it.
        total_bytes: of all files, unpacked.
        ratio: unpacked to packed; what is smaller than ``small_bytes`` unpacked may exceed it.
        small_bytes: see ``ratio``.
    """

    members: int = 100_000
    total_bytes: int = 64 * 2**30
    ratio: int = 200
    small_bytes: int = 64 * 2**20

    def allowed_bytes(self, packed: int, free: int) -> int:
        """Bytes that an archive of a size may unpack to."""
        by_ratio = max(self.ratio * packed, self.small_bytes)
        return min(self.total_bytes, by_ratio, int(_DISK_SHARE * free))


class Member(NamedTuple):
    """A file that was unpacked.

    Attributes:
        path: where it lies now.
        name: its name in the archive.
    """

    path: Path
    name: str


LIMITS: Final = Limits()


def is_archive(path: Path) -> bool:
    """Whether the name is one of a zip or tar file."""
    return path.name.lower().endswith(SUFFIXES)


def unpack(archive: Path, folder: Path, limits: Limits = LIMITS) -> list[Member]:
    """Writes the files of an archive into a folder, those of one directory into one directory.

    Archives inside are written as they are. Nothing is left in the folder on an error.

    Raises:
        ArchiveError: broken, encrypted, with links or names that lead elsewhere, or beyond a
            limit.
        OSError: the archive cannot be opened, or the folder not written.
    """
    is_zip = archive.name.lower().endswith(ZIP_SUFFIXES)
    folder.mkdir(parents=True)
    allowed = limits.allowed_bytes(archive.stat().st_size, shutil.disk_usage(folder).free)
    try:
        with archive.open("rb") as file:
            opened = _zip_members(file, limits) if is_zip else _tar_members(file, allowed)
            members = list(_written(opened, folder, limits.members, allowed))
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError,
            NotImplementedError, RuntimeError, ValueError, gzip.BadGzipFile) as error:  # fmt: skip
        shutil.rmtree(folder)
        msg = f"broken archive ({type(error).__name__})"
        raise ArchiveError(msg) from error
    except BaseException:
        shutil.rmtree(folder)
        raise
    # As old as their archive: what was made of them before is known again.
    times = archive.stat()
    for member in members:
        os.utime(member.path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return members


def _written(
    opened: Iterator[tuple[str, IO[bytes]]], folder: Path, members: int, allowed: int
) -> Iterator[Member]:
    directories: dict[PurePosixPath, Path] = {}
    left = allowed
    for number, (name, stream) in enumerate(opened):
        if number >= members:
            raise ArchiveError(f"more than {members} files")
        inside = PurePosixPath(name.replace("\\", "/"))
        if inside.is_absolute() or ".." in inside.parts or ":" in inside.parts[0]:
            raise ArchiveError("a name leads out of the archive")
        target = directories.setdefault(inside.parent, folder / f"{len(directories)}")
        target.mkdir(exist_ok=True)
        path = target / f"{number}{_kept_suffix(name)}"
        with path.open("xb") as file:
            while chunk := stream.read(_CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise ArchiveError("unpacks beyond the limit")
                file.write(chunk)
        yield Member(path, str(inside))


def _kept_suffix(name: str) -> str:
    lower = name.lower()
    return next((suffix for suffix in _KEPT_SUFFIXES[::-1] if lower.endswith(suffix)), "")


def _zip_members(file: BinaryIO, limits: Limits) -> Iterator[tuple[str, IO[bytes]]]:
    if _directory_bytes(file) > limits.members * _DIRECTORY_ENTRY_BYTES:
        raise ArchiveError(f"more than {limits.members} files")
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in {0, stat.S_IFREG}:
                raise ArchiveError("a member is a link or a device")
            if info.flag_bits & 1:
                raise ArchiveError("encrypted")
            with archive.open(info) as stream:
                yield info.filename, stream


def _directory_bytes(file: BinaryIO) -> int:
    """Size of a zip file's directory, which ``zipfile`` reads into memory before anything else."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - 2**17))
    tail = file.read()
    file.seek(0)
    at = tail.rfind(b"PK\5\6")
    if at < 0:
        raise ArchiveError("broken archive (no directory)")
    length = int.from_bytes(tail[at + 12 : at + 16], "little")
    large = tail.rfind(b"PK\6\6", 0, at)
    return length if large < 0 else int.from_bytes(tail[large + 40 : large + 48], "little")


def _tar_members(file: BinaryIO, allowed: int) -> Iterator[tuple[str, IO[bytes]]]:
    # Headers count too: one of them may claim to be gigabytes long.
    with _plain(file) as plain:
        counted = _Counted(plain, 2 * allowed + _CHUNK)
        archive = tarfile.open(fileobj=counted, mode="r|")  # noqa: SIM115  nothing of it to close
        for info in archive:
            if info.isdir():
                continue
            if not info.isreg() or info.issparse():
                raise ArchiveError("a member is a link or a device")
            stream = archive.extractfile(info)
            if stream is not None:
                yield info.name, stream
        # A whole archive ends in empty blocks; tarfile takes a cut between two files for the end.
        if counted.count < archive.offset + tarfile.BLOCKSIZE:
            raise ArchiveError("broken archive (cut)")


@contextmanager
def _plain(file: BinaryIO) -> Iterator[IO[bytes]]:
    magic = file.read(6)
    file.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        with gzip.GzipFile(fileobj=file) as plain:
            yield cast("IO[bytes]", plain)
    elif magic.startswith(b"\xfd7zXZ"):
        with lzma.LZMAFile(file) as plain:
            yield plain
    elif magic.startswith(b"BZh"):
        with bz2.BZ2File(file) as plain:
            yield plain
    else:
        yield file


class _Counted(io.RawIOBase):
    """A stream that counts its bytes, and ends in an error beyond a number of them."""

    def __init__(self, stream: IO[bytes], allowed: int) -> None:
        self._stream, self._allowed = stream, allowed
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        content = self._stream.read(min(size, _CHUNK) if size >= 0 else _CHUNK)
        self.count += len(content)
        if self.count > self._allowed:
            raise ArchiveError("unpacks beyond the limit")
        return content
