"""One case: read, segment, write into the staging folder; whatever goes wrong becomes an outcome.

The three stages are functions of their own, so that a worker can overlap those of several cases.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from nestseg.batch import staging
from nestseg.batch.failures import InputChangedError, judge
from nestseg.batch.jobs import Job, Outcome, Settings
from nestseg.batch.states import Cause, Facts, Flag, Output
from nestseg.bundle import trace
from nestseg.outputs.segmentation import Prediction
from nestseg_prep import process_memory
from nestseg_prep.dicom.references import SeriesRef
from nestseg_prep.plausible import doubts
from nestseg_prep.reading import read_volume
from nestseg_prep.volume import Volume

if TYPE_CHECKING:
    from nestseg.bundle.bundle import Bundle


@dataclass
class Work:
    """A case between its stages.

    Attributes:
        job: which.
        image: once it was read.
        result: once it was segmented.
        seconds: wall time of each stage so far.
        failure: why it failed; the stages that follow do nothing.
    """

    job: Job
    image: Volume | None = None
    result: Prediction | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    failure: tuple[Cause, str] | None = None


def run_case(job: Job, bundle: Bundle, settings: Settings) -> Outcome:
    """Segment one series into its staging folder; nothing is raised.

    Each file was written, synced, read back and compared. After a failure the folder is gone.
    """
    process_memory.forget_peak()
    return write(infer(read(job), bundle, settings), bundle, settings)


def read(job: Job) -> Work:
    """Read the image."""
    work = Work(job)
    with _stage(work, "read"):
        before = _stamps(job.ref)
        try:
            work.image = read_volume(job.ref)
        finally:  # half a file is damaged as well, but not for good
            if _stamps(job.ref) != before:
                raise InputChangedError
    return work


def infer(work: Work, bundle: Bundle, settings: Settings) -> Work:
    """Segment the image."""
    with _stage(work, "infer"):
        if work.image is not None:
            options = replace(settings.options, gentle=work.job.gentle)
            work.result = bundle.predict(work.image, options)
    return work


def write(work: Work, bundle: Bundle, settings: Settings) -> Outcome:
    """Write the outputs, and say what came of the case."""
    job = work.job
    outputs: tuple[Output, ...] = ()
    known = Facts()
    with _stage(work, "write"):
        if work.image is not None and work.result is not None:
            known = _facts(work, work.image, work.result)
            outputs, lacking = staging.stage(work.image, work.result, job, bundle.info, settings)
            known = replace(known, notes=(*known.notes, *lacking))
    cause, reason = work.failure or (None, "")
    if cause is not None:
        outputs, known = (), Facts()
        shutil.rmtree(job.staging, ignore_errors=True)
    facts = replace(
        known,
        seconds={stage: round(seconds, 3) for stage, seconds in work.seconds.items()},
        peak_memory_mb=round((process_memory.peak() or 0) / 1e6, 1),
    )
    return Outcome(job.name, job.attempt, cause, reason, outputs, facts, worker_name())


def _facts(work: Work, image: Volume, result: Prediction) -> Facts:
    """What image and mask say by themselves; warnings that the scan gave stand with the series."""
    known = {one.code for one in work.job.ref.findings}
    seen = [one for one in doubts(image, work.job.ref) if one.code not in known]
    return Facts(
        **asdict(result.sizes),
        uncertainty=result.uncertainty,
        flags=(
            *(Flag(str(one.code), one.sentence) for one in seen),
            *result.flags,
        ),
        notes=result.notes,
        computed_by=result.computed_by,
    )


def worker_name() -> str:
    """Which process this is, among all hosts."""
    return f"{socket.gethostname()}:{os.getpid()}"


@contextmanager
def _stage(work: Work, stage: str) -> Iterator[None]:
    """Time a stage; an exception in it ends the case, and lets go of its arrays."""
    start = time.perf_counter()
    try:
        yield
    except Exception as error:  # noqa: BLE001  one bad case must never stop the others
        trace.show(error)
        work.failure = judge(error, stage)
        work.image = work.result = None
    finally:
        work.seconds[stage] = time.perf_counter() - start


def _stamps(ref: SeriesRef) -> list[tuple[int, int]]:
    found = [path.stat() for path in ref.files]
    return [(one.st_size, one.st_mtime_ns) for one in found]
