"""DICOM headers that were read before: a second run reads no file again that has not changed.

Headers hold UIDs and free text, and lie in a folder that is handed around: they are encrypted with
a key of this site. Without it, and after any damage, files are simply read again.
"""

from __future__ import annotations

import base64
import sqlite3
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography.fernet import Fernet, InvalidToken

from nestseg.batch import schema
from nestseg_prep.dicom import files, header_text
from nestseg_prep.dicom.headers import Header, read_header
from nestseg_prep.site_key import keyed_hash

_COMMIT_EVERY: Final = 500
_NOT_DICOM: Final = b""
_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS headers (file BLOB PRIMARY KEY, size INTEGER NOT NULL, "
    "mtime_ns INTEGER NOT NULL, header BLOB NOT NULL) WITHOUT ROWID"
)


def cache_beside(journal: Path) -> Path:
    """Where the cache of a journal's runners lies."""
    return journal.with_name(f".nestseg-headers-{journal.stem}.sqlite")


class HeaderCache:
    """Reads headers, those that it knows from its file; used by one thread.

    Args:
        path: of the file; made if missing. If it cannot be, nothing is kept.
        but: files below are never kept: what archives are unpacked to.

    Attributes:
        read_files: how many headers were read from their own files.
    """

    def __init__(self, path: Path, but: Path) -> None:
        self._but = but
        self._fernet = Fernet(base64.urlsafe_b64encode(keyed_hash("", purpose="header cache")))
        self._pending = 0
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._usable = True
        self.read_files = 0

    def read(self, path: Path) -> Header:
        """The header of a file, as :func:`nestseg_prep.dicom.headers.read_header` reads it."""
        if path.is_relative_to(self._but) or not self._open():
            return self._read(path)
        status = path.stat()
        stamp = (status.st_size, status.st_mtime_ns)
        name = keyed_hash(str(path.absolute()), purpose="header cache")
        known = self._known(name, stamp, path)
        if known is not None:
            return known
        try:
            header = self._read(path)
        except files.NotDicomError:
            self._keep(name, stamp, _NOT_DICOM)
            raise
        packed = zlib.compress(header_text.dump(header).encode(), 1)
        self._keep(name, stamp, self._fernet.encrypt(packed))
        return header

    def close(self) -> None:
        """Keep what was read."""
        with suppress(sqlite3.Error):
            if self._connection is not None:
                if self._connection.in_transaction:
                    self._connection.execute("COMMIT")
                self._connection.close()
            self._connection = None
            self._usable = False

    def _open(self) -> bool:
        """Whether there is a cache; its file is made when it is first needed."""
        if self._connection is None and self._usable:
            try:
                connection = schema.connect(self._path)
                # A lost cache costs some seconds: no need to wait for the disk.
                connection.execute("PRAGMA synchronous = OFF")
                connection.execute("PRAGMA busy_timeout = 1000")
                connection.execute(_TABLE)
                self._connection = connection
            except (sqlite3.Error, OSError):
                self._usable = False
        return self._connection is not None

    def _read(self, path: Path) -> Header:
        self.read_files += 1
        return read_header(path)

    def _known(self, name: bytes, stamp: tuple[int, int], path: Path) -> Header | None:
        if self._connection is None:
            return None
        try:
            row = self._connection.execute(
                "SELECT size, mtime_ns, header FROM headers WHERE file = ?", (name,)
            ).fetchone()
            if row is None or (row["size"], row["mtime_ns"]) != stamp:
                return None
            if row["header"] == _NOT_DICOM:
                raise files.NotDicomError
            text = zlib.decompress(self._fernet.decrypt(row["header"])).decode()
            return header_text.load(text, path)
        except (sqlite3.Error, InvalidToken, zlib.error, ValueError, TypeError):
            return None  # damaged, or of another key or version

    def _keep(self, name: bytes, stamp: tuple[int, int], header: bytes) -> None:
        """Keep a header; a cache that cannot be written is no cache, and no failure."""
        if self._connection is None:
            return
        try:
            if not self._connection.in_transaction:
                self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute(
                "INSERT OR REPLACE INTO headers (file, size, mtime_ns, header) VALUES (?, ?, ?, ?)",
                (name, *stamp, header),
            )
            self._pending += 1
            if self._pending % _COMMIT_EVERY == 0:
                self._connection.execute("COMMIT")
        except sqlite3.Error:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
            self._usable = False
