"""Parts of the cases of one output folder, each with a journal of its own."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TypeAlias

from nestseg.batch import schema
from nestseg_prep.errors import InputError

Shard: TypeAlias = tuple[int, int] | None
"""``(3, 8)`` for the third of eight; ``None`` for everything."""


def in_shard(key: str, shard: Shard) -> bool:
    """Whether a series belongs to the ``i``-th shard of ``n``; the same in every run."""
    if shard is None:
        return True
    number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    return number % shard[1] == shard[0] - 1


def check_division(out: Path, path: Path) -> None:
    """Raise an InputError where the folder is divided otherwise than this run is."""
    _, _, count = path.stem.partition("-of-")
    for other in schema.journals_in(out):
        if other.stem.partition("-of-")[2] != count:
            raise InputError(
                f"{out}: {other.name} divides the cases otherwise; give the same --shard i/n as "
                "there, or another --out"
            )
