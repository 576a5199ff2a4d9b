"""The files of one case, each written, synced, read back and compared, in its staging folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nestseg.batch.jobs import Job, Settings
from nestseg.batch.states import Output
from nestseg.bundle.info import BundleInfo
from nestseg.bundle.manifest import digest
from nestseg.outputs.dicom.encoding import Encoding
from nestseg.outputs.preview import draw_preview, write_png
from nestseg.outputs.segmentation import STEP, Prediction
from nestseg.outputs.snapshot import snapshot
from nestseg_prep.nifti import write_nifti
from nestseg_prep.nifti_header import LABELS, MAP
from nestseg_prep.picture import write_picture
from nestseg_prep.volume import Volume

Files = Iterator[tuple[str, Path]]


def stage(
    image: Volume,
    result: Prediction,
    job: Job,
    bundle: BundleInfo,
    settings: Settings,
) -> tuple[tuple[Output, ...], tuple[str, ...]]:
    """Write everything into an empty staging folder: what an earlier attempt left there goes.

    Returns:
        The files, and what was asked for and cannot be made of this series, in sentences.

    Raises:
        InputError: an output cannot hold the mask, or headers do not allow a DICOM object.
        OSError: a file cannot be written; that of a runner that lost its lease never can.
    """
    shutil.rmtree(job.staging, ignore_errors=True)
    job.staging.mkdir(mode=0o700)
    drawn = result.to_draw()
    files = [*_masks(result, job), *_preview(image, drawn, job, bundle)]
    files += [*_snapshot(image, drawn, job, bundle), *_maps(result, job)]
    notes: tuple[str, ...] = ()
    if settings.dicom and job.ref.kind == "dicom":  # other files have no patient to refer to
        made, notes = _dicom(result, job, bundle, settings.dicom)
        files += made
    return tuple(_output(role, path, job.staging) for role, path in files), notes


def _masks(result: Prediction, job: Job) -> Files:
    """A picture's mask is a picture. Labels that may overlap have a file each, of 0 and 1."""
    if len(result.masks) == 1:
        yield "mask", _mask(result.mask, job, "seg")
        return
    for mask, labels in result.by_mask():
        (value,) = labels
        only = mask.with_voxels((mask.array != 0).astype(np.uint8))
        yield f"mask-{value}", _mask(only, job, f"seg_{value}")


def _mask(mask: Volume, job: Job, what: str) -> Path:
    if job.ref.kind == "picture" and mask.shape[2] == 1:
        path = job.staging / f"{job.name}_{what}.png"
        write_picture(mask, path, result=True)
    else:
        path = job.staging / f"{job.name}_{what}.nii.gz"
        write_nifti(mask, path, mark=LABELS)
    return path


def _preview(image: Volume, mask: Volume, job: Job, bundle: BundleInfo) -> Files:
    path = job.staging / f"{job.name}_preview.png"
    write_png(draw_preview(image, mask, bundle.labels), path)
    yield "preview", path


def _snapshot(image: Volume, mask: Volume, job: Job, bundle: BundleInfo) -> Files:
    """What the report shows of the case: its image is not there any more when that is written."""
    path = job.staging / f"{job.name}.snapshot"
    snapshot(image, mask, bundle.labels).write(path)
    yield "snapshot", path


def _maps(result: Prediction, job: Job) -> Files:
    """Uncertainty and probabilities, where they were asked for."""
    if result.uncertainty_map is not None:
        path = job.staging / f"{job.name}_uncertainty.nii.gz"
        write_nifti(result.uncertainty_map, path, STEP, MAP)
        yield "uncertainty", path
    for value, probability in result.probabilities():
        path = job.staging / f"{job.name}_probability_{value}.nii.gz"
        write_nifti(probability, path, STEP, MAP)
        yield f"probability-{value}", path


def _dicom(
    result: Prediction, job: Job, bundle: BundleInfo, encoding: Encoding
) -> tuple[list[tuple[str, Path]], tuple[str, ...]]:
    """SEG and SR, or why there are none; the NIfTI mask does not depend on them."""
    # Imported here: highdicom costs half a second, and most runs write no DICOM.
    from nestseg.outputs.dicom.results import write_results  # noqa: PLC0415
    from nestseg.outputs.dicom.source import NotReferableError  # noqa: PLC0415

    stem = job.staging / job.name
    notes: tuple[str, ...] = ()
    if len(result.masks) > 1 and encoding is Encoding.LABELMAP:
        encoding = Encoding.BINARY
        notes = ("The DICOM SEG is BINARY: a LABELMAP cannot hold labels that overlap.",)
    try:
        files = write_results(
            result.masks, job.ref, result.volumes, bundle.labels, bundle.algorithm, stem, encoding
        )
    except NotReferableError as error:
        return [], (f"No DICOM SEG and SR: {error}.",)
    return [("seg", files.seg), ("sr", files.sr)], notes


def _output(role: str, path: Path, folder: Path) -> Output:
    return Output(role, path.relative_to(folder).as_posix(), digest(path), path.stat().st_size)
