"""What people write for memory, shards and options → numbers and data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from nestseg.bundle.options import SegmentOptions, Tta, read_level
from nestseg.cli import bundles
from nestseg_prep.errors import InputError

if TYPE_CHECKING:
    from nestseg.pruning.choice import Rule

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


def options(tta: Tta, level: str | None, ensemble: str) -> SegmentOptions:
    """How to segment.

    Args:
        tta: whether to mirror.
        level: ``"L2"`` or ``"auto"``.
        ensemble: names or folders of bundles, with commas between.

    Raises:
        InputError: there is no such level or bundle.
    """
    names = [name.strip() for name in ensemble.split(",") if name.strip()]
    return SegmentOptions(
        tta=tta,
        level=None if level is None else read_level(level),
        ensemble=tuple(bundles.find(name) for name in names),
    )


def budget(ms: float | None, mb: float | None) -> Rule | None:
    """What a case may take; ``None`` if nothing was said.

    Raises:
        InputError: no amount of time or memory.
    """
    from nestseg.pruning.choice import Rule

    return None if ms is None and mb is None else Rule(budget_ms=ms, budget_mb=mb)


def check_bundle(bundle: str, only: str, select: Path | None, ensemble: str) -> None:
    """Pass if options that need ``--bundle``, or go without it, are given so.

    Raises:
        InputError: one is not.
    """
    if bundle and only:
        raise InputError("--only narrows the bundles that are tried without --bundle; drop one")
    for option, given in (("--select", select), ("--ensemble", ensemble)):
        if given and not bundle:
            raise InputError(f"{option} is for one bundle; name it with --bundle")
