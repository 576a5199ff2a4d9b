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
from dataclasses import dataclass, field
from pathlib import Path

from nestseg.batch.failures import InputChanged, judge
from nestseg.batch.jobs import Job, Outcome, Settings
from nestseg.batch.states import Cause, Facts, Output
from nestseg.bundle.gentle import in_smaller_tiles
from nestseg.bundle.loaded import LoadedBundle
from nestseg.bundle.manifest import digest
from nestseg.outputs.dicom.encoding import Encoding
from nestseg.outputs.preview import draw_preview, write_png
from nestseg.outputs.snapshot import snapshot
from nestseg.outputs.volumetry import volumes_ml
from nestseg_prep import process_memory
from nestseg_prep.dicom.references import SeriesRef
from nestseg_prep.nifti import write_nifti
from nestseg_prep.picture import write_picture
from nestseg_prep.reading import read_volume
from nestseg_prep.volume import Volume


@dataclass
class Work:
    """A case between its stages.

    Attributes:
        job: which.
        image: once it was read.
        mask: once it was segmented.
        seconds: wall time of each stage so far.
        notes: what was done differently than asked.
        failure: why it failed; the stages that follow do nothing.
    """

    job: Job
    image: Volume | None = None
    mask: Volume | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failure: tuple[Cause, str] | None = None


def run_case(job: Job, bundle: LoadedBundle, settings: Settings) -> Outcome:
    """Segment one series into its staging folder; nothing is raised.

    Each file was written, synced, read back and compared. After a failure the folder is gone.
    """
    process_memory.forget_peak()
    return write(infer(read(job), bundle), bundle, settings)


def read(job: Job) -> Work:
    """Read the image."""
    work = Work(job)
    with _stage(work, "read"):
        before = _stamps(job.ref)
        try:
            work.image = read_volume(job.ref)
        finally:  # half a file is damaged as well, but not for good
            if _stamps(job.ref) != before:
                raise InputChanged
    return work


def infer(work: Work, bundle: LoadedBundle) -> Work:
    """Segment the image."""
    with _stage(work, "infer"):
        if work.image is None:
            return work
        if work.job.gentle:
            bundle, note = in_smaller_tiles(bundle)
            work.notes.append(note)
        work.mask = bundle.segment(work.image)
    return work


def write(work: Work, bundle: LoadedBundle, settings: Settings) -> Outcome:
    """Write the outputs, and say what came of the case."""
    job = work.job
    outputs: tuple[Output, ...] = ()
    sizes: dict[str, float] = {}
    with _stage(work, "write"):
        if work.image is not None and work.mask is not None:
            sizes = volumes_ml(work.mask, bundle.labels)
            outputs = _stage_files(work.image, work.mask, sizes, job, bundle, settings)
    cause, reason = work.failure or (None, "")
    if cause is not None:
        shutil.rmtree(job.staging, ignore_errors=True)
    facts = Facts(
        volumes_ml=sizes,
        seconds={stage: round(seconds, 3) for stage, seconds in work.seconds.items()},
        peak_memory_mb=round((process_memory.peak() or 0) / 1e6, 1),
        notes=tuple(work.notes),
    )
    return Outcome(
        job.name, job.attempt, cause, reason, () if cause else outputs, facts, worker_name()
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
        work.failure = judge(error, stage)
        work.image = work.mask = None
    finally:
        work.seconds[stage] = time.perf_counter() - start


def _stamps(ref: SeriesRef) -> list[tuple[int, int]]:
    found = [path.stat() for path in ref.files]
    return [(one.st_size, one.st_mtime_ns) for one in found]


def _stage_files(
    image: Volume,
    mask: Volume,
    sizes: dict[str, float],
    job: Job,
    bundle: LoadedBundle,
    settings: Settings,
) -> tuple[Output, ...]:
    """Write everything into an empty staging folder: what an earlier attempt left there goes."""
    shutil.rmtree(job.staging, ignore_errors=True)
    job.staging.mkdir(mode=0o700)
    is_picture = job.ref.kind == "picture" and mask.shape[2] == 1
    mask_path = job.staging / f"{job.name}_seg{'.png' if is_picture else '.nii.gz'}"
    (write_picture if is_picture else write_nifti)(mask, mask_path)
    preview = job.staging / f"{job.name}_preview.png"
    write_png(draw_preview(image, mask, bundle.labels), preview)
    shot = job.staging / f"{job.name}_snapshot.zip"
    snapshot(image, mask, bundle.labels).write(shot)
    files = {"mask": mask_path, "preview": preview, "snapshot": shot}
    if settings.dicom and job.ref.kind == "dicom":  # other files have no patient to refer to
        files |= _write_dicom(mask, sizes, job, bundle, settings.dicom)
    return tuple(_output(role, path, job.staging) for role, path in files.items())


def _write_dicom(
    mask: Volume, sizes: dict[str, float], job: Job, bundle: LoadedBundle, encoding: Encoding
) -> dict[str, Path]:
    # Imported here: highdicom costs half a second, and most runs write no DICOM.
    from nestseg.outputs.dicom.algorithm import Algorithm  # noqa: PLC0415
    from nestseg.outputs.dicom.results import write_results  # noqa: PLC0415

    algorithm = Algorithm(bundle.name, bundle.version, bundle.weights_sha256, bundle.segment_codes)
    stem = job.staging / job.name
    files = write_results(mask, job.ref, sizes, bundle.labels, algorithm, stem, encoding)
    return {"seg": files.seg, "sr": files.sr}


def _output(role: str, path: Path, folder: Path) -> Output:
    return Output(role, path.relative_to(folder).as_posix(), digest(path), path.stat().st_size)
