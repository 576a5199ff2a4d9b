"""What a worker process says on its way, besides :class:`Loaded` and :class:`Outcome`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """Where a job stands in a worker."""

    READ = "read"
    WAIT = "wait"  # was read; another case is being segmented
    INFER = "infer"
    WRITE = "write"


@dataclass(frozen=True)
class Entered:
    """A job entered a stage."""

    name: str
    stage: Stage


@dataclass(frozen=True)
class Refused:
    """The worker cannot start, and why, in a line."""

    reason: str
