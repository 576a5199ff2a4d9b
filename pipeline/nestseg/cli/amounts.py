"""What people write for memory and shards → numbers."""

from __future__ import annotations

import re

from nestseg_prep.errors import InputError

_UNITS = {"MB": 10**6, "GB": 10**9, "MIB": 2**20, "GIB": 2**30}


def megabytes(text: str | None) -> int | None:
    """``"6GB"`` → 6000.

    Raises:
        InputError: it is no amount of memory.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([MG]i?B)", text.strip(), flags=re.IGNORECASE)
    amount = float(match[1]) * _UNITS[match[2].upper()] / 10**6 if match else 0
    if amount < 1:
        raise InputError(f"--max-memory {text}: no amount of memory; write 6GB or 800MB")
    return int(amount)


def shard(text: str | None) -> tuple[int, int] | None:
    """``"3/8"`` → ``(3, 8)``.

    Raises:
        InputError: it is no part of a whole.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    part = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= part[0] <= part[1]:
        raise InputError(f"--shard {text}: no i/n with i from 1 to n; write 3/8")
    return part
