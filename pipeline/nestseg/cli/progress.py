"""What a run says, as a bar on a terminal, as plain lines, or as JSON for a log collector."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from nestseg.batch.events import Event, Kind, Listener
from nestseg.cli import tables
from nestseg_prep.dicom.references import OtherFile

_ENDED = (Kind.DONE, Kind.FAILED)
_TO_RUN = (Kind.FOUND, Kind.CHANGED)
_SENTENCES = {
    Kind.TAKEN_OVER: "the run before is {text}; this one goes on where it was",
    Kind.REBUILT: "there was no journal; {text} cases are kept as run.json proves them",
    Kind.CHANGED: "{case}: {text}; it is segmented again",
    Kind.RETRY: "{case}: {text}; it will be tried again",
    Kind.FAILED: "nestseg: {case}: {text}",
    Kind.STOPPING: "stopping: what runs is finished or given back; once more to kill it",
}


@contextmanager
def listener(*, as_json: bool, show_phi: bool) -> Iterator[Listener]:
    """Where a run's events go: always to stderr.

    Args:
        as_json: one JSON object a line.
        show_phi: also name the files of a case.
    """
    if as_json:
        yield lambda event: _write_json(event, show_phi=show_phi)
    elif tables.stderr.is_terminal:
        with _Bar(tables.stderr, show_phi=show_phi) as bar:
            yield bar.tell
    else:
        yield _Lines(show_phi=show_phi).tell


def say_end(text: str, code: int, *, as_json: bool) -> None:
    """Why a run ended before its time."""
    if as_json:
        event = Event(Kind.ENDED, text=text, facts={"code": code})
        _write_json(event, show_phi=False)
    else:
        _say(tables.stderr, f"nestseg: {text}")


def say_unseen(unseen: Sequence[OtherFile], *, as_json: bool, show_phi: bool) -> None:
    """Which folders of the inputs could not be read."""
    if unseen and as_json:
        reasons = dict(Counter(other.finding.detail for other in unseen))
        paths = {"paths": [str(other.path) for other in unseen]} if show_phi else {}
        _write_json(Event(Kind.UNSEEN, facts={"reasons": reasons} | paths), show_phi=False)
    elif unseen:
        tables.say_unseen(unseen, show_phi=show_phi)


class _Lines:
    """A line for whatever a person may want to know afterwards."""

    def __init__(self, *, show_phi: bool) -> None:
        self._show_phi = show_phi
        self._ended = self._total = 0

    def tell(self, event: Event) -> None:
        self._total += event.kind in _TO_RUN
        self._ended += event.kind in _ENDED
        line = ""
        if event.kind is Kind.DONE:
            seconds = (event.facts or {}).get("seconds", 0.0)
            line = f"{self._ended}/{self._total} {event.case}: done in {seconds:.1f} s"
        elif event.kind in _SENTENCES:
            line = _sentence(event)
        if line:
            _say(tables.stderr, line + _where(event, show_phi=self._show_phi))


class _Bar:
    """Cases done of those found so far, slices a second, time left; failures stay on screen."""

    def __init__(self, console: Console, *, show_phi: bool) -> None:
        self._console, self._show_phi = console, show_phi
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._total = self._slices = 0
        self._since: float | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        self._task = self._progress.add_task("Reading headers", total=None, speed="")
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def tell(self, event: Event) -> None:
        if event.kind in _TO_RUN:
            self._total += 1
            self._progress.update(self._task, total=self._total)
        elif event.kind is Kind.SCANNING and self._since is None:
            files = (event.facts or {})["files"]
            self._progress.update(self._task, description=f"Reading headers, {files} files")
        elif event.kind is Kind.LOADING:
            self._progress.update(self._task, description="Loading the model")
        elif event.kind is Kind.STARTED:
            self._since = self._since or time.monotonic()
            self._progress.update(self._task, description="Segmenting")
        elif event.kind in _ENDED:
            self._slices += (event.facts or {}).get("slices", 0)
            elapsed = time.monotonic() - (self._since or time.monotonic())
            speed = f"{self._slices / elapsed:.0f} slices/s" if elapsed else ""
            self._progress.update(self._task, advance=1, speed=speed)
        if event.kind in _SENTENCES:
            _say(self._console, _sentence(event) + _where(event, show_phi=self._show_phi))


def _sentence(event: Event) -> str:
    return _SENTENCES[event.kind].format(case=event.case, text=event.text)


def _where(event: Event, *, show_phi: bool) -> str:
    return f" ({event.ref.files[0]})" if show_phi and event.ref is not None else ""


def _say(console: Console, line: str) -> None:
    console.print(line, soft_wrap=True, markup=False, highlight=False)


def _write_json(event: Event, *, show_phi: bool) -> None:
    record: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "event": event.kind,
    }
    if event.case:
        record["case"] = event.case
    if event.text:
        record["text"] = event.text
    record |= event.facts or {}
    if show_phi and event.ref is not None:
        record["files"] = [str(path) for path in event.ref.files]
    sys.stderr.write(json.dumps(record) + "\n")
    sys.stderr.flush()
