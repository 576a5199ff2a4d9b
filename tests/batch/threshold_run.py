"""A batch whose cases cost nothing: real files, real journal, and a threshold for a network.

Run as a program by the fault tests, since it starts in a second and may be killed at any moment:
``python threshold_run.py OPTIONS OUT INPUT …``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import select
import sys
from pathlib import Path
from typing import Any

import numpy as np

from nestseg.batch import digests, session
from nestseg.batch.discovery import Inputs
from nestseg.batch.events import Event
from nestseg.batch.failures import judge
from nestseg.batch.holders import Timing
from nestseg.batch.jobs import Job, Loaded, Outcome
from nestseg.batch.states import Cause, Facts, Output, State
from nestseg.batch.stops import ExitCode, StopError
from nestseg.cli import signals
from nestseg_prep.dicom.rules import SAFE
from nestseg_prep.errors import InputError
from nestseg_prep.nifti import write_nifti
from nestseg_prep.reading import read_volume
from nestseg_prep.selection import Selection
from nestseg_prep.volume import Volume


class ThresholdPool:
    """Cases in this process, one at a time; see :class:`nestseg.batch.pool.Pool`.

    Args:
        seconds: that a case takes at least.
        hold: while there is such a file, no case ends.
    """

    def __init__(self, seconds: float = 0.0, hold: Path | None = None) -> None:
        self.seconds, self.hold = seconds, hold
        self.jobs: list[Job] = []
        self.ran: list[str] = []

    def ready(self) -> Loaded:
        return Loaded("threshold", "1", "0" * 64, {1: "bright"}, "cpu")

    @property
    def free(self) -> int:
        return 0 if self.jobs else 1

    def submit(self, job: Job) -> None:
        self.jobs.append(job)

    def wait(self, timeout_s: float) -> list[Outcome]:
        return [self.outcome(self.jobs.pop())] if self.jobs else []

    def cancel(self, name: str) -> None:
        self.jobs = [job for job in self.jobs if job.name != name]

    def close(self, *, kill: bool) -> None:
        self.jobs.clear()

    def outcome(self, job: Job) -> Outcome:
        self.ran.append(job.name)
        stage = "read"
        try:
            image = read_volume(job.ref)
            stage = "infer"
            self.segment(job)
            mask = Volume((image.array > np.median(image.array)).astype(np.uint8), image.affine)
            stage = "write"
            job.staging.mkdir()
            outputs = []
            for role in ("mask", "probabilities"):
                path = job.staging / f"{job.name}_{role}.nii.gz"
                write_nifti(mask, path)
                content = path.read_bytes()
                digest = hashlib.sha256(content).hexdigest()
                outputs.append(Output(role, path.name, digest, len(content)))
        except Exception as error:  # noqa: BLE001  as a worker does
            return Outcome(job.name, job.attempt, *judge(error, stage))
        facts = Facts({"bright": float(mask.array.sum())}, seconds={"infer": self.seconds})
        return Outcome(job.name, job.attempt, outputs=tuple(outputs), facts=facts)

    def segment(self, job: Job) -> None:
        _pause(self.seconds)
        while self.hold is not None and self.hold.exists():
            _pause(0.05)


def _pause(seconds: float) -> None:
    # time.sleep fails under libfaketime, which does not know how Python sleeps.
    select.select([], [], [], seconds)


def order(out: Path, inputs: list[Path], **changes: Any) -> session.Order:
    """What a run of this kind is asked for."""
    given = {
        "settings_digest": digests.settings_digest([], SAFE, {}),
        "timing": Timing(beat=0.1, lease=1.0),
        "patience_s": 5.0,
    }
    return session.Order(out, Inputs(inputs, Selection(), SAFE), **given | changes)


def tree(out: Path) -> dict[str, str]:
    """Every file below a folder, hidden ones too, but for the books → sha256."""
    found = {}
    for path in sorted(out.rglob("*")):
        kept = path.name.startswith(("journal", "run.json", ".nestseg-headers"))
        if path.is_file() and not kept:
            found[str(path.relative_to(out))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("inputs", type=Path, nargs="+")
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--hold", type=Path)
    parser.add_argument("--lease", type=float, default=1.0)
    options = parser.parse_args()
    os.umask(0o077)
    wanted = order(options.out, options.inputs, timing=Timing(options.lease / 10, options.lease))
    with signals.stopping() as stop:
        try:
            pool = ThresholdPool(options.seconds, options.hold)
            ending = session.run(wanted, lambda: pool, _tell, stop=stop)
        except InputError as error:
            print(f"nestseg: {error}", file=sys.stderr)
            return ExitCode.NOT_STARTED
        except StopError as error:
            print(f"nestseg: {error}", file=sys.stderr)
            return error.code
    if not ending.finished:
        return 128 + stop.number
    bad = [row for row in ending.view.rows if row.cause is not None or row.state is State.FOUND]
    return ExitCode.SOME_FAILED if bad else ExitCode.ALL_DONE


def _tell(event: Event) -> None:
    print(event.kind, event.case, event.text, flush=True)


__all__ = ["Cause", "ThresholdPool", "order", "tree"]

if __name__ == "__main__":
    sys.exit(main())
