"""Who holds a lease, as others see it, and how to get past locks that a runner left behind."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from nestseg.batch import schema
from nestseg.batch.process import Process, this_process
from nestseg.batch.stops import HeldError


@dataclass(frozen=True)
class Timing:
    """Seconds by the observer's clock.

    Attributes:
        beat: between two beats of the holder.
        lease: after so long without one, the holder counts as frozen.
    """

    beat: float = 2.0
    lease: float = 30.0


STANDARD: Final = Timing()


class Row(NamedTuple):
    """The lease as it stands in the journal."""

    token: int
    holder: Process
    beat: int
    released: bool


def read(db: sqlite3.Connection) -> Row | None:
    """The lease; ``None`` if there never was one."""
    row = db.execute("SELECT token, holder, beat, released FROM lease").fetchone()
    if row is None:
        return None
    return Row(
        row["token"], Process(**json.loads(row["holder"])), row["beat"], bool(row["released"])
    )


def end_frozen_writer(path: Path, timing: Timing) -> None:
    """Kill a runner of this machine that stands still with the journal's lock in its hand.

    Nothing but its end lets go of the lock. It would have stopped by itself when it came back.

    Raises:
        HeldError: whoever has the lock moves, or is elsewhere.
    """
    with closing(schema.peek(path)) as db:
        row = read(db)
    if row is None or row.released:
        raise HeldError("something else keeps the journal locked; close what reads it")
    own, host = this_process(), row.holder.host.split()[0]
    until = time.monotonic() + timing.lease
    while time.monotonic() < until:
        time.sleep(timing.beat / 8)
        with closing(schema.peek(path)) as db:
            if read(db) != row:
                raise HeldError(held_by(row.holder))
    if row.holder.host != own.host or row.holder.pid == own.pid:
        raise HeldError(
            f"process {row.holder.pid} on {host} stands still and keeps the journal locked; end it"
        )
    if not row.holder.is_gone(own):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(row.holder.pid, signal.SIGKILL)


def held_by(holder: Process) -> str:
    """What to tell whom a living runner keeps out."""
    return (
        f"another nestseg works on this folder (process {holder.pid} on "
        f"{holder.host.split()[0]}); wait for it, or choose another --out"
    )


def clear_stale_lock(path: Path, timing: Timing) -> None:
    """Remove SQLite's dot file if a killed runner left it: one that lives comes and goes."""
    lock = path.with_name(f"{path.name}.lock")
    if schema.supports_locks(path.parent):
        return
    first = _identity(lock)
    until = time.monotonic() + timing.lease
    while first is not None and _identity(lock) == first:
        if time.monotonic() >= until:
            with suppress(OSError):
                lock.rmdir()
            return
        time.sleep(timing.beat / 8)


def _identity(lock: Path) -> tuple[int, int] | None:
    try:
        status = lock.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
