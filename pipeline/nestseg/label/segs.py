"""Labels ↔ DICOM segmentation objects that refer to the series they were drawn on."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from nestseg.label.names import Classes, classes_for, moves_to, without_gaps
from nestseg.outputs.dicom.algorithm import MANUFACTURER, Algorithm
from nestseg.outputs.dicom.read import read_seg
from nestseg.outputs.dicom.seg import label_seg
from nestseg.outputs.dicom.source import quiet, read_source
from nestseg_prep.dicom.references import SeriesRef
from nestseg_prep.errors import InputError
from nestseg_prep.images import series_at
from nestseg_prep.reading import read_volume
from nestseg_prep.source import SourceGrid
from nestseg_prep.volume import Volume

_BY_A_PERSON: Final = "Drawn or corrected by a person in MONAI Label."
_BY_HAND: Final = Algorithm("MONAI Label", version("nestseg"), "none")


def write_seg(
    labels: Volume,
    folder: Path,
    names: Mapping[int, str],
    algorithm: Algorithm | None,
    *,
    by_a_person: bool = False,
) -> Path:
    """Write a label map as a BINARY segmentation object, read back and compared.

    Args:
        labels: on the grid of the series' volume.
        folder: of the DICOM series.
        names: number → name; numbers between them are described too.
        algorithm: what made the label, or what a person started from; ``None`` if nobody knows.
        by_a_person: whether a person drew or corrected it.

    Returns:
        A temporary file.

    Raises:
        InputError: the label does not fit the series, or its headers allow no such object.
    """
    ref = series_at(folder)
    every = without_gaps(names)
    with quiet(ref.key, "a DICOM SEG"):
        source = read_source(ref)
        pixels = _grid(ref).take(labels.array)
        seg = label_seg(pixels, source, every, algorithm or _BY_HAND)
        if by_a_person:
            _sign(seg, by_hand=algorithm is None)
        with tempfile.NamedTemporaryFile(suffix=".dcm", delete=False) as file:
            seg.save_as(file, enforce_file_format=True)
            file.flush()
            os.fsync(file.fileno())
        written = read_seg(Path(file.name))
        if written.names != every or not np.array_equal(written.labels_on(source), pixels):
            raise InputError("the SEG reads back differently from what was written")
    return Path(file.name)


def _sign(seg: Dataset, *, by_hand: bool) -> None:
    """Say that a person stands behind a label, and no algorithm that did not make it."""
    # UIDs that follow from content are for results of a model. Who returns to an earlier label
    # makes a new one, and an archive would keep the earlier object for it.
    seg.SeriesInstanceUID, seg.SOPInstanceUID = generate_uid(), generate_uid()
    seg.file_meta.MediaStorageSOPInstanceUID = seg.SOPInstanceUID
    seg.ContentDescription = _BY_A_PERSON
    seg.SeriesDescription = "Label"
    for equipment in seg.ContributingEquipmentSequence:
        if equipment.Manufacturer == MANUFACTURER:  # highdicom adds itself
            equipment.ContributionDescription = _BY_A_PERSON
    for segment in seg.SegmentSequence:
        segment.SegmentAlgorithmType = "MANUAL" if by_hand else "SEMIAUTOMATIC"
        if by_hand:
            del segment.SegmentAlgorithmName
            del segment.SegmentationAlgorithmIdentificationSequence


def read_label(path: Path, folder: Path, bundles: Sequence[Classes]) -> Volume:
    """The label map of a segmentation object of any writer, on the grid of its series' volume.

    A class counts by its name where a bundle knows it, and by its number elsewhere.

    Args:
        path: of the object.
        folder: of the DICOM series.
        bundles: classes of each.

    Raises:
        InputError: it is no such object, or does not fit the series.
    """
    ref = series_at(folder)
    seg = read_seg(path)
    stored = seg.labels_on(read_source(ref))
    table = np.arange(max(int(stored.max()), max(seg.names, default=0)) + 1)
    for number, its in moves_to(classes_for(seg.names.values(), bundles), seg.names).items():
        table[number] = its
    image = read_volume(ref)
    laid = np.zeros(image.shape, np.uint16)
    grid = _grid(ref)
    for number, (i, j, k) in enumerate(grid.nearest):  # the way there of `SourceGrid.take`
        plane = table[stored[number]].T
        laid[i : i + grid.columns, j - grid.rows + 1 : j + 1, k] = plane[:, ::-1]
    kind = np.uint8 if laid.max() < 256 else np.uint16
    return Volume(laid.astype(kind), image.affine)


def _grid(ref: SeriesRef) -> SourceGrid:
    if ref.source is None:
        raise InputError(f"series {ref.key}: no stored slices to refer to")
    return ref.source
