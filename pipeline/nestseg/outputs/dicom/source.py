"""The stored slices that a result lies on: their headers, as far as a result repeats them."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from nestseg.outputs.dicom.algorithm import uid_from
from nestseg_prep.dicom import files
from nestseg_prep.dicom.headers import Frame, Header, read_header
from nestseg_prep.dicom.references import SeriesRef, SliceRef
from nestseg_prep.errors import InputError, NestsegError

Array = npt.NDArray[np.float64]

_UIDS: Final = ("sop_class", "sop_uid", "study_uid", "series_uid")
# Pixels and the frames' own tags: large, and of the image alone.
_PIXEL_GROUP: Final = 0x7FE0
_FUNCTIONAL_GROUPS: Final = 0x5200


class NotReferableError(InputError):
    """No DICOM object can refer to the slices; a mask of them can be written all the same."""


class Reference(NamedTuple):
    """A stored slice, as other objects refer to it.

    Attributes:
        sop_class: SOPClassUID of its object.
        sop_uid: SOPInstanceUID of its object.
        frame: number of the frame in a multi-frame object, from 1; ``None`` in a classic one.
    """

    sop_class: str
    sop_uid: str
    frame: int | None


@dataclass(frozen=True, eq=False)
class SourceSlices:
    """Slices of one series that lie parallel, ascending along their normal.

    Attributes:
        references: one for each slice.
        study_uid: StudyInstanceUID.
        series_uid: SeriesInstanceUID.
        modality: ``"CT"``, ``"MR"`` ...
        positions: ``(slices, 3)`` LPS mm of the first pixel of each.
        orientation: row direction, then column direction, LPS, as their header says.
        spacing: mm between rows, then between columns.
        thickness: mm.
        rows: pixels along a column of each slice.
        columns: pixels along a row of it.
        frame_of_reference: UID, one of our own where the headers have none.
        header: of the first slice without pixels: patient, study, equipment.
        part: what they are among the volumes of their series ("echo 2"), ``""`` for a whole one.
    """

    references: tuple[Reference, ...]
    study_uid: str
    series_uid: str
    modality: str
    positions: Array
    orientation: tuple[float, ...]
    spacing: tuple[float, float]
    thickness: float
    rows: int
    columns: int
    frame_of_reference: str
    header: Dataset
    part: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(slices, rows, columns)``."""
        return len(self.references), self.rows, self.columns

    @property
    def axes(self) -> Array:
        """``(3, 3)``: row direction, column direction and normal, LPS, at right angles."""
        left, _, right = np.linalg.svd(np.reshape(self.orientation, (2, 3)), full_matrices=False)
        row, column = left @ right
        return np.stack([row, column, np.cross(row, column)])


def read_source(ref: SeriesRef) -> SourceSlices:
    """Reads the headers of an accepted DICOM series again.

    Returns:
        Its slices in the order of ``ref.slices``.

    Raises:
        InputError: a file changed since the scan.
        NotReferableError: the headers lack a UID to refer to, or several share one.
    """
    if ref.kind != "dicom" or not ref.slices:
        msg = f"series {ref.key}: DICOM results need a DICOM series"
        raise InputError(msg)
    return replace(source_of(ref.key, ref.slices), part=ref.part)


def source_of(key: str, slices: Sequence[SliceRef]) -> SourceSlices:
    """Reads the headers of slices that lie parallel, ascending along their normal.

    Raises:
        InputError: see ``read_source``.
    """
    headers: dict[Path, Header] = {}
    planes: list[tuple[Header, Frame]] = []
    try:
        for one in slices:
            if one.path not in headers:
                headers[one.path] = read_header(one.path)
            header = headers[one.path]
            if header.sop_uid != one.sop_uid:
                raise files.DamagedFileError
            planes.append((header, header.frames[one.frame]))
        first = _read_dataset(slices[0].path)
    except (files.NotDicomError, files.DamagedFileError, IndexError, OSError) as error:
        msg = f"series {key}: its files changed since the scan; scan again"
        raise InputError(msg) from error
    _check_references(key, headers.values())
    header, frame = planes[0]
    between_rows, between_columns = frame.spacing or (1.0, 1.0)
    positions = np.array([plane.position for _, plane in planes], dtype=np.float64)
    return SourceSlices(
        references=tuple(
            Reference(h.sop_class, h.sop_uid, plane.index + 1 if h.enhanced else None)
            for h, plane in planes
        ),
        study_uid=header.study_uid,
        series_uid=header.series_uid,
        modality=header.modality,
        positions=positions,
        orientation=frame.orientation or (),
        spacing=(between_rows, between_columns),
        thickness=_thickness(first) or _usual_step(positions),
        rows=header.rows,
        columns=header.columns,
        frame_of_reference=header.frame_of_reference
        or uid_from("frame of reference", header.series_uid),
        header=_common(first),
    )


@contextmanager
def quiet(key: str, what: str) -> Iterator[None]:
    """Turns whatever pydicom and highdicom say of a header into one line of ours.

    Their errors and warnings quote the values they dislike, and those are a patient's.

    Raises:
        InputError: in place of every error but ours and those of the operating system.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (NestsegError, OSError, MemoryError):
        raise
    except Exception as error:
        msg = (
            f"series {key}: its headers do not allow {what} ({type(error).__name__}); "
            "the NIfTI mask does not depend on them"
        )
        raise InputError(msg) from error


def _check_references(key: str, headers: Collection[Header]) -> None:
    """Passes if each file has a name of its own, and all are named as one series."""
    why = ""
    if not all(getattr(header, name) for header in headers for name in _UIDS):
        why = "lacks a UID, so no DICOM object can refer to it"
    elif len({header.sop_uid for header in headers}) < len(headers):
        why = "several files have one SOPInstanceUID, so no DICOM object can tell its slices apart"
    elif len({header.series_uid for header in headers}) > 1:
        why = "its slices have a SeriesInstanceUID each, so no DICOM object can refer to it"
    if why:
        msg = f"series {key}: {why}; export it again with its own UIDs, or do without DICOM results"
        raise NotReferableError(msg)


def _read_dataset(path: Path) -> Dataset:
    with files.open_plain(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return files.read_dataset(file)


def _common(dataset: Dataset) -> Dataset:
    """What is neither private nor of the image alone: patient, study, equipment."""
    kept = Dataset()
    for tag, element in dataset.items():
        if not tag.is_private and tag.group not in (_PIXEL_GROUP, _FUNCTIONAL_GROUPS):
            kept[tag] = element
    return kept


def _thickness(header: Dataset) -> float:
    """SliceThickness of a classic header or of the shared or first frame's groups, 0 if none."""
    groups = [header]
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in list(header.get(name) or ())[:1]:
            groups += list(group.get("PixelMeasuresSequence") or ())
    for group in groups:
        try:
            thickness = float(group.get("SliceThickness") or 0)
        except (TypeError, ValueError):
            continue
        if np.isfinite(thickness) and thickness > 0:
            return thickness
    return 0.0


def _usual_step(positions: Array) -> float:
    if len(positions) < 2:
        return 1.0
    return float(np.median(np.linalg.norm(np.diff(positions, axis=0), axis=1)))
