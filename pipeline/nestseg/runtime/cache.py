"""What was compiled or measured once, kept for the next process; nothing of a patient is in it.

An entry is written under a temporary name and renamed, and says its own digest: one that is damaged
is none. Nothing depends on the cache; where it cannot be written, work is done again.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

VARIABLE: Final = "NESTSEG_CACHE"
LARGEST: Final = 4 * 10**9
"""Bytes of all entries; those that were not used for longest go first."""
_DIGEST = 32


def folder() -> Path:
    """What ``NESTSEG_CACHE`` says, or ``nestseg`` in the user's cache folder.

    Raises:
        RuntimeError: the user has no home, as in some containers.
    """
    if said := os.environ.get(VARIABLE):
        return Path(said)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nestseg"


def read(key: str) -> bytes | None:
    """An entry, or ``None`` if there is none that is whole."""
    try:
        path = folder() / key
        if path.stat().st_uid != os.geteuid():
            return None  # a graph is code: nobody else's is run
        content = path.read_bytes()
    except (OSError, RuntimeError):
        return None
    digest, payload = content[:_DIGEST], content[_DIGEST:]
    if hashlib.sha256(payload).digest() != digest:
        with suppress(OSError):
            path.unlink()
        return None
    with suppress(OSError):
        os.utime(path)
    return payload


def write(key: str, payload: bytes) -> None:
    """Keep an entry; nothing happens where that cannot be done."""
    try:
        place = folder()
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return
    partial = place / f".{key}.{secrets.token_hex(4)}"
    try:
        with partial.open("xb") as file:
            file.write(hashlib.sha256(payload).digest())
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(place / key)
        _make_room(place)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _make_room(place: Path) -> None:
    entries = sorted(
        ((entry.stat(), Path(entry)) for entry in os.scandir(place) if entry.is_file()),
        key=lambda pair: pair[0].st_mtime_ns,
    )
    total = sum(status.st_size for status, _ in entries)
    for status, path in entries[:-1]:
        if total <= LARGEST:
            return
        path.unlink(missing_ok=True)
        total -= status.st_size
