"""Output folders of runs, as the journal and the snapshots leave them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from nestseg.batch import schema
from nestseg.batch.entries import Entry, Publication
from nestseg.batch.journal import Journal
from nestseg.batch.lease import Lease
from nestseg.batch.states import Cause, Facts, Flag, Output, State
from nestseg.outputs.snapshot import snapshot

from .bodies import LABELS, body

SERIES = {
    "kind": "dicom",
    "modality": "CT",
    "shape": [120, 100, 80],
    "spacing": [0.7, 0.8, 2.5],
    "findings": [],
}
HEADER = {
    "nestseg": "1.2.3",
    "bundle": {"name": "organs_unetpp", "version": "0.2.0", "weights_sha256": "5d" * 32},
    "labels": LABELS,
    "options": {},
    "device": "cpu",
    "python": "3.11",
    "libraries": {"torch": "2.13.0"},
    "started": "2026-03-01T09:00:00+00:00",
    "scanned": True,
}


@contextmanager
def recording(out: Path, shard: tuple[int, int] | None = None) -> Iterator[Journal]:
    """The journal of a new run in ``out``."""
    path = out / schema.journal_name(shard)
    lease = Lease(path)
    journal = Journal(path, lease.token)
    journal._connection.execute("PRAGMA synchronous = OFF")  # no power cut in these tests
    journal.note(**HEADER)
    try:
        yield journal
    finally:
        journal.close()
        lease.release()


def enter(journal: Journal, name: str, state: State = State.FOUND, reason: str = "") -> None:
    """A series, found."""
    journal.enter(Entry(name, name, SERIES, state, reason, "input", "settings"))


def finish(journal: Journal, name: str, facts: Facts, outputs: tuple[Output, ...] = ()) -> None:
    """A case, done."""
    enter(journal, name)
    journal.start(name)
    one = Publication(name, f"{name}.1", outputs, facts, "host:1")
    journal.publish(one)
    journal.done(one)


def fail(journal: Journal, name: str, state: State, cause: Cause, reason: str) -> None:
    """A case, failed."""
    enter(journal, name)
    journal.start(name)
    journal.fail(name, state, cause, reason, "host:1")


def take_snapshot(out: Path, name: str, size: int = 60) -> Output:
    """A snapshot of a body under the name that a case gives it."""
    path = out / f"{name}.snapshot"
    snapshot(*body((size, 50, 40), (1.0, 1.0, 1.5)), LABELS).write(path)
    content = path.read_bytes()
    return Output("snapshot", path.name, hashlib.sha256(content).hexdigest(), len(content))


def facts(front: float, top: float, *flags: Flag) -> Facts:
    """Of a case that took 4.5 s."""
    seconds = {"read": 1.0, "infer": 3.0, "write": 0.5}
    return Facts({"front": front, "top": top}, front / 100, flags, seconds, 900.0)


def small_run(out: Path) -> None:
    """Twelve cases done, one of them three times as large; others failed, refused, waiting."""
    rng = np.random.default_rng(7)
    with recording(out) as journal:
        for number in range(12):
            name = f"case{number:02d}"
            front = 30.0 if number == 5 else 10 + float(rng.uniform(-1, 1))
            border = Flag("touches-border", "It touches the border of the image.", "top")
            flags = (border,) if number == 3 else ()
            outputs = (Output("mask", f"{name}_seg.nii.gz", "0" * 64, 100),)
            if number < 6:
                outputs += (take_snapshot(out, name, 56 + number),)
            finish(journal, name, facts(front, 20 + float(rng.uniform(-2, 2)), *flags), outputs)
        fail(journal, "poison", State.QUARANTINED, Cause.KILLED, "Its worker died three times.")
        fail(journal, "large", State.FAILED, Cause.MEMORY, "Needs more memory than it may use.")
        enter(journal, "waiting")
        enter(journal, "gaps", State.REFUSED, "At least one slice is missing.")
        enter(journal, "brain", State.UNFIT, "modality MR; the bundle takes CT")
        journal.note(finished="2026-03-01T10:00:00+00:00")
