"""One thing about a mask that a person should look at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flag:
    """Something about a mask that a person should look at.

    Attributes:
        code: short and stable, ``"touches-border"``.
        sentence: what it is, in plain words, free of patient data.
        label: which structure, ``""`` for the whole mask.
    """

    code: str
    sentence: str
    label: str = ""
