"""Training, validation and test cases, so that no subject stands on two sides.

The place of a subject depends on a digest of its name alone: the same on every machine, and a
subject that joins later moves few of the others.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Final

from nestseg_prep.errors import InputError

FRACTION: Final = 0.15
"""Of the subjects, for validation; and as many for testing."""

# What a file name adds to that of the subject: a session, a time point, a side, a repetition.
_OCCASION: Final = re.compile(
    r"[-_](ses(sion)?|visit|scan|frame|time|timepoint|tp|t|run|acq|phase|left|right|l|r|lh|rh)"
    r"[-_]?\w*$",
    re.IGNORECASE,
)
_BIDS: Final = re.compile(r"^(sub-[A-Za-z0-9]+)(_|$)")


def subject(case: str) -> str:
    """The subject of a case, as far as its file name tells; else the case itself.

    Example:
        >>> subject("sub-07_ses-2_T1w"), subject("patient012_frame01"), subject("spleen_31")
        ('sub-07', 'patient012', 'spleen_31')
    """
    bids = _BIDS.match(case)
    if bids:
        return bids.group(1)
    return _OCCASION.sub("", case) or case


def split(cases: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Split cases by subject.

    Args:
        cases: their names.

    Returns:
        ``{"train": names, "val": …, "test": …}``, each in the order of the alphabet.

    Raises:
        InputError: fewer than three subjects.
    """
    names = sorted(cases)
    subjects = sorted({subject(name) for name in names}, key=_digest)
    if len(subjects) < 3:
        raise InputError(
            f"{len(subjects)} subjects; at least three are needed, one each to train, validate "
            "and test"
        )
    held_out = max(1, round(FRACTION * len(subjects)))
    parts: dict[str, Sequence[str]] = {
        "train": subjects[2 * held_out :],
        "val": subjects[:held_out],
        "test": subjects[held_out : 2 * held_out],
    }
    return {
        part: tuple(name for name in names if subject(name) in members)
        for part, members in parts.items()
    }


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
