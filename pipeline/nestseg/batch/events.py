"""What a run says while it goes on, to whoever shows it: a bar, plain lines, JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from nestseg_prep.dicom.references import SeriesRef


class Kind(StrEnum):
    """What has happened."""

    TAKEN_OVER = "taken-over"  # a runner before was dead or frozen
    RECOVERED = "recovered"  # outputs of a runner before got their names
    REBUILT = "rebuilt"  # a lost journal, from run.json
    LOADING = "loading"  # the model
    FOUND = "found"  # a case that is to be segmented
    CHANGED = "changed"  # likewise: it was done, but its input or the settings differ now
    KEPT = "kept"  # done before
    PUT_ASIDE = "put-aside"  # quarantined before
    STARTED = "started"
    DONE = "done"
    RETRY = "retry"  # failed, and will be tried again
    FAILED = "failed"
    SCANNING = "scanning"  # so many files so far
    SCANNED = "scanned"  # every input has been seen
    UNSEEN = "unseen"  # folders could not be read: what lies in them was left out
    ENDED = "ended"  # before its time: the text says why
    STOPPING = "stopping"  # a signal came: running cases are finished or released


@dataclass(frozen=True)
class Event:
    """Something that has happened.

    Attributes:
        kind: what.
        case: its name; ``""`` for the whole run.
        text: more about it, free of patient data.
        ref: the series, which may lead to a patient.
        facts: numbers that go with it.
    """

    kind: Kind
    case: str = ""
    text: str = ""
    ref: SeriesRef | None = None
    facts: dict[str, Any] | None = None


Listener: TypeAlias = Callable[[Event], None]
