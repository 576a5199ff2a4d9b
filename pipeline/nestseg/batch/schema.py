"""The journal's tables, and how its file is opened on a local disk and on a network's.

One SQLite file with a rollback journal: WAL needs shared memory, which no network file system
has. Where a file system knows no locks, SQLite's own dot files take their place.
"""

from __future__ import annotations

import errno
import fcntl
import sqlite3
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Final
from urllib.parse import quote

from nestseg_prep.errors import InputError

_DAMAGE: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_PRIMARY: Final = 0xFF  # of SQLite's error codes

BUSY_SECONDS: Final = 30.0
_NO_LOCKS: Final = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL}

TABLES: Final = """
CREATE TABLE IF NOT EXISTS lease (
    only_one INTEGER PRIMARY KEY CHECK (only_one = 1),
    token INTEGER NOT NULL,      -- of the runner that may write; grows with each
    holder TEXT NOT NULL,        -- JSON: host, boot, pid, start
    beat INTEGER NOT NULL,       -- grows while the holder lives
    released INTEGER NOT NULL    -- 1: the holder has left
);
CREATE TABLE IF NOT EXISTS run (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL          -- JSON
);
CREATE TABLE IF NOT EXISTS cases (
    key TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    place INTEGER NOT NULL,      -- order of discovery
    series TEXT NOT NULL,        -- JSON: kind, modality, shape, spacing, findings, free of patients
    state TEXT NOT NULL,
    cause TEXT,
    reason TEXT NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 0,   -- all of them
    failures INTEGER NOT NULL DEFAULT 0,   -- those that count, since input or settings changed
    publishing TEXT,             -- JSON: staging folder and outputs on their way to their names
    outputs TEXT NOT NULL DEFAULT '[]',    -- JSON
    facts TEXT NOT NULL DEFAULT '{}',      -- JSON
    input_digest TEXT NOT NULL,
    settings_digest TEXT NOT NULL DEFAULT '',
    worker TEXT NOT NULL DEFAULT '',
    started TEXT,
    finished TEXT,
    seen INTEGER NOT NULL        -- token of the last runner that found it
);
CREATE INDEX IF NOT EXISTS cases_by_state ON cases (state);
"""


def journal_name(shard: tuple[int, int] | None = None) -> str:
    """``"journal.sqlite"``, or ``"journal-3-of-8.sqlite"`` for the third shard of eight."""
    return "journal.sqlite" if shard is None else f"journal-{shard[0]}-of-{shard[1]}.sqlite"


def journals_in(out: Path) -> list[Path]:
    """Every journal of an output folder, in the order of their names."""
    return sorted([*out.glob("journal.sqlite"), *out.glob("journal-*-of-*.sqlite")])


def connect(
    path: Path, *, read_only: bool = False, busy_s: float = BUSY_SECONDS
) -> sqlite3.Connection:
    """Open a journal; transactions are begun and ended by hand.

    Args:
        path: of the file.
        read_only: whether nothing will be written, and the file must be there.
        busy_s: how long to wait for others who write.

    Raises:
        sqlite3.Error: it is no journal, or cannot be opened.
    """
    # Readers may write too, if the file system lets them: what a killed runner left half-done in
    # the file is rolled back by whoever opens it next.
    query = ["mode=rw" if read_only else "mode=rwc"]
    if not supports_locks(path.parent):
        query.append("vfs=unix-dotfile")
    connection = sqlite3.connect(
        f"file:{quote(str(path.resolve()))}?{'&'.join(query)}",
        uri=True,
        timeout=busy_s,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.row_factory = sqlite3.Row
    if read_only:
        connection.execute("PRAGMA query_only = ON")
    else:
        connection.execute("PRAGMA synchronous = FULL")
    return connection


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Look at every page and index of a journal that was just opened.

    Raises:
        InputError: it is damaged.
        sqlite3.Error: it cannot be read now.
    """
    # Not quick_check: the indexes take 0.02 s more of 10,000 cases, whose rows take 1 s to read.
    try:
        (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            raise damaged(path) from error
        raise
    if found != "ok":
        raise damaged(path)


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error says that the file is damaged, and not that it is busy or out of reach."""
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY in _DAMAGE


def is_busy(error: sqlite3.Error) -> bool:
    """Whether an error says that another process has locked the file."""
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY == sqlite3.SQLITE_BUSY


def damaged(path: Path) -> InputError:
    """What to say of a damaged journal."""
    return InputError(
        f"{path}: damaged (no sound journal); move it away and run the same `nestseg segment` "
        "again: it keeps the cases that run.json proves, and repeats the others"
    )


def peek(path: Path) -> sqlite3.Connection:
    """Open a journal without a look at its locks, for one row that somebody may be writing."""
    uri = f"file:{quote(str(path.resolve()))}?immutable=1"
    connection = sqlite3.connect(uri, uri=True)
    connection.row_factory = sqlite3.Row
    return connection


@lru_cache
def supports_locks(folder: Path) -> bool:
    """Whether files of a folder can be locked; some network file systems refuse to."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            fcntl.lockf(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _NO_LOCKS
    return True
