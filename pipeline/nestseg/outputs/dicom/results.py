"""A mask and its volumes → a SEG and an SR file beside it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from nestseg.outputs.dicom import sr
from nestseg.outputs.dicom.algorithm import LONG_STRING, MANUFACTURER, REVIEW, Algorithm
from nestseg.outputs.dicom.encoding import Encoding
from nestseg.outputs.dicom.read import read_seg
from nestseg.outputs.dicom.seg import label_seg, title_of
from nestseg.outputs.dicom.source import quiet, read_source
from nestseg.outputs.dicom.sr import volume_report, volumes_of
from nestseg.outputs.dicom.terminology import concept_of
from nestseg_prep.dicom.references import SeriesRef
from nestseg_prep.disk import sync_folder
from nestseg_prep.errors import InputError, OutputError
from nestseg_prep.volume import Volume


class DicomFiles(NamedTuple):
    """What was written for one series.

    Attributes:
        seg: the segmentation object.
        sr: the measurement report.
    """

    seg: Path
    sr: Path


def write_results(
    masks: Sequence[Volume],
    ref: SeriesRef,
    volumes_ml: Mapping[str, float],
    names: Mapping[int, str],
    algorithm: Algorithm,
    stem: Path,
    encoding: Encoding = Encoding.BINARY,
) -> DicomFiles:
    """Writes ``STEM_seg.dcm`` and ``STEM_sr.dcm``: both whole and verified, or neither.

    Each is written under a temporary name, read back and compared voxel by voxel and value by
    value before it gets its own.

    Args:
        masks: on the grid of the series' volume: a label map, or one for each label of ``names``
            in rising order, where labels may overlap.
        ref: the series that was segmented; its headers are read again.
        volumes_ml: label name → millilitres.
        names: label → name, without the background.
        algorithm: what made the mask.
        stem: folder and beginning of the names.
        encoding: how the SEG stores labels.

    Raises:
        InputError: no DICOM object can refer to the series, or its headers allow none.
        OutputError: a file reads back differently.
        OSError: one cannot be written. Nothing is left under the names.
    """
    files = DicomFiles(
        stem.with_name(f"{stem.name}_seg.dcm"), stem.with_name(f"{stem.name}_sr.dcm")
    )
    partial = DicomFiles(*(path.with_name(f".{os.getpid()}.partial.{path.name}") for path in files))
    try:
        with quiet(ref.key, "a DICOM SEG and SR"):
            source = read_source(ref)
            if ref.source is None or masks[0].shape != ref.shape:
                msg = f"series {ref.key}: a mask of {masks[0].shape} on a volume of {ref.shape}"
                raise InputError(msg)
            taken = [ref.source.take(mask.array) for mask in masks]
            labels = taken[0] if len(taken) == 1 else np.stack([one != 0 for one in taken])
            seg = label_seg(labels, source, names, algorithm, encoding)
            _save(seg, partial.seg)
            written = read_seg(partial.seg)
            stored = written.labels_on if len(taken) == 1 else written.masks_on
            same = np.array_equal(stored(source), labels)
            _check(same and written.names == dict(names), files.seg)

            report = volume_report(volumes_ml, seg, source, names, algorithm)
            _save(report, partial.sr)
            expected = {number: volumes_ml[name] for number, name in names.items()}
            _check(volumes_of(pydicom.dcmread(partial.sr)) == expected, files.sr)
        for temporary, path in zip(partial, files, strict=True):
            temporary.replace(path)
    finally:
        for temporary in partial:
            temporary.unlink(missing_ok=True)
    sync_folder(stem.parent)
    return files


def texts_of(
    bundle: Mapping[str, str], names: Iterable[str], parts: Iterable[str] = ()
) -> set[str]:
    """Everything that SEG and SR say in the words of a bundle, not of a header.

    Args:
        bundle: its ``name``, ``version`` and ``weights_sha256``.
        names: what it calls its labels.
        parts: what volumes of a series are called ("echo 2"): numbers and defined terms.
    """
    algorithm = Algorithm(bundle["name"], bundle["version"], bundle["weights_sha256"])
    texts = {
        *(algorithm.name, algorithm.model_name, algorithm.version, algorithm.bundle_version),
        *(algorithm.weights_sha256, f"weights_sha256={algorithm.weights_sha256}"),
        *algorithm.software_versions,
        *(algorithm.described(part, what) for part in ("", *parts) for what in ("", sr.VOLUMES)),
        title_of(algorithm),
        *(f"{algorithm.name} {algorithm.bundle_version}", REVIEW),
        *(MANUFACTURER, "Background"),
    }
    for name in names:
        kind = concept_of(name).type
        texts |= {name, name[:LONG_STRING], kind.value, kind.meaning}
    return texts


def _save(dataset: Dataset, path: Path) -> None:
    with path.open("xb") as file:
        dataset.save_as(file, enforce_file_format=True)
        file.flush()
        os.fsync(file.fileno())


def _check(same: bool, path: Path) -> None:
    if not same:
        msg = f"{path.name}: what was written reads back differently; check the disk"
        raise OutputError(msg)
