"""Who may write into an output folder: one runner at a time, by a token that only grows.

A holder lives if its process does and its counter moves. Where the process cannot be seen (on
another machine) or stands still, the counter is watched for a lease period by the observer's own
monotonic clock. No two clocks are ever compared, and no time is read from a file.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

from nestseg.batch import schema
from nestseg.batch.holders import (
    STANDARD,
    Row,
    Timing,
    clear_stale_lock,
    end_frozen_writer,
    held_by,
    read,
)
from nestseg.batch.process import Process, this_process
from nestseg.batch.stops import HeldError, StorageError


class Lease:
    """The right to write, from the moment it is made; a thread keeps it alive.

    Args:
        path: of the journal; made if missing.
        timing: how often it beats, and how long another one is watched.

    Attributes:
        token: larger than that of every holder before.
        taken_from: how the holder before ended: ``"dead"``, ``"frozen"`` or ``""``, if it left
            in order.
        lost: set when another runner has taken over.

    Raises:
        HeldError: another runner is alive.
        StorageError: the journal cannot be made or written.
        InputError: it is damaged.
    """

    def __init__(self, path: Path, timing: Timing = STANDARD) -> None:
        self._path, self._timing = path, timing
        self.lost = threading.Event()
        self._stop = threading.Event()
        try:
            clear_stale_lock(path, timing)
            self.token, self.taken_from = _take_from_anybody(path, timing)
        except sqlite3.Error as error:
            if schema.is_damage(error):
                raise schema.damaged(path) from error
            raise StorageError(f"journal: {error}") from error
        except (ValueError, TypeError, KeyError) as error:  # whose lease it was is no longer said
            raise schema.damaged(path) from error
        self._thread = threading.Thread(target=self._keep, name="nestseg-lease", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Leave in order: the next runner need not wait. Does nothing if the lease is lost."""
        self._stop.set()
        self._thread.join()
        with suppress(sqlite3.Error), closing(schema.connect(self._path)) as db:
            db.execute("UPDATE lease SET released = 1 WHERE token = ?", (self.token,))

    def _keep(self) -> None:
        with closing(schema.connect(self._path)) as db:
            while not self._stop.wait(self._timing.beat):
                # A full disk or a busy file is no reason to give up: the next beat may get through.
                with suppress(sqlite3.Error):
                    mine = db.execute(
                        "UPDATE lease SET beat = beat + 1 WHERE token = ?", (self.token,)
                    )
                    if not mine.rowcount:
                        self.lost.set()
                        return


def _take_from_anybody(path: Path, timing: Timing) -> tuple[int, str]:
    """A new token, and how the holder before ended; also if it froze while it was writing."""
    try:
        return _take_from_living(path, timing)
    except sqlite3.OperationalError as error:
        if not schema.is_busy(error):
            raise
    end_frozen_writer(path, timing)
    return _take_from_living(path, timing)[0], "frozen"


def _take_from_living(path: Path, timing: Timing) -> tuple[int, str]:
    with closing(schema.connect(path, busy_s=timing.lease)) as db:
        schema.check(db, path)
        db.executescript(schema.TABLES)
        return _take(db, timing)


def _take(db: sqlite3.Connection, timing: Timing) -> tuple[int, str]:
    """A new token, and how the holder before ended."""
    own = this_process()
    while True:
        row = read(db)
        how = "" if row is None or row.released else _ended(db, row, own, timing)
        db.execute("BEGIN IMMEDIATE")
        current = read(db)
        still = (current and (current.token, current.beat, current.released)) == (
            row and (row.token, row.beat, row.released)
        )
        if still:
            token = row.token + 1 if row else 1
            db.execute(
                "INSERT OR REPLACE INTO lease (only_one, token, holder, beat, released) "
                "VALUES (1, ?, ?, 0, 0)",
                (token, json.dumps(own.to_json())),
            )
        db.execute("COMMIT")
        if still:
            return token, how


def _ended(db: sqlite3.Connection, row: Row, own: Process, timing: Timing) -> str:
    """How a holder that has not left came to its end.

    Raises:
        HeldError: it has not.
    """
    if row.holder.is_gone(own):
        return "dead"
    until = time.monotonic() + timing.lease
    while time.monotonic() < until:
        time.sleep(min(timing.beat, timing.lease) / 8)
        current = read(db)
        if current is None or (current.token, current.beat) != (row.token, row.beat):
            raise HeldError(held_by(row.holder))
        if current.released:
            return ""
        if row.holder.is_gone(own):
            return "dead"
    return "frozen"
