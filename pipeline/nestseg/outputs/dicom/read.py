"""DICOM segmentation objects → masks on the slices of an image, whoever wrote them.

Voxels are found by where they lie in the patient, never by their order in the file: a writer may
have cropped, flipped, turned or reversed the grid, and may have left empty frames out.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from highdicom.seg import Segmentation
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from nestseg.outputs.dicom.source import SourceSlices
from nestseg_prep.dicom import files
from nestseg_prep.errors import InputError

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]

# Writers round positions; half a voxel would be a guess.
_OFF_GRID_VOXELS: Final = 0.1
_STEP_TOLERANCE: Final = 0.01
_CLASSES: Final = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")


@dataclass(frozen=True)
class Segment:
    """One class of a segmentation object.

    Attributes:
        number: its SegmentNumber: the label in a label map.
        name: its SegmentLabel.
        category: what kind of thing it is.
        type: what it is.
        tracking_uid: TrackingUID, ``""`` where not given.
    """

    number: int
    name: str
    category: Code
    type: Code
    tracking_uid: str


class _Frame(NamedTuple):
    """A frame: the segment whose mask it holds (``None``: its pixels are labels), its place."""

    segment: int | None
    pixels: npt.NDArray[Any]
    position: Array
    steps: Array
    """``(2, 3)`` LPS mm from row to row, from column to column."""
    between_frames: float
    """mm, 0 where not given."""


@dataclass(frozen=True, eq=False)
class SegmentationFile:
    """A segmentation object in memory.

    Attributes:
        segments: its classes without the background, ascending.
        kind: ``"BINARY"``, ``"FRACTIONAL"`` or ``"LABELMAP"``.
    """

    segments: tuple[Segment, ...]
    kind: str
    _object: Any

    @property
    def names(self) -> dict[int, str]:
        """Segment number → name."""
        return {segment.number: segment.name for segment in self.segments}

    def labels_on(self, source: SourceSlices) -> npt.NDArray[Any]:
        """The label map on the slices of an image.

        Returns:
            ``(slices, rows, columns)`` uint8, or uint16 for numbers above 255.

        Raises:
            InputError: segments overlap or hold fractions, or lie on another grid than the slices.
        """
        highest = max((segment.number for segment in self.segments), default=0)
        labels = np.zeros(source.shape, np.uint8 if highest < 256 else np.uint16)
        full = int(self._object.get("MaximumFractionalValue", 1))
        for frame in self._frames():
            rows, columns = np.nonzero(frame.pixels)
            values = frame.pixels[rows, columns]
            if frame.segment is not None:
                if (values != full).any():
                    msg = "the segments hold fractions; read them as masks"
                    raise InputError(msg)
                values = np.full(len(rows), frame.segment, labels.dtype)
            place = _indices(frame, source, rows, columns)
            if np.any((labels[place] != 0) & (labels[place] != values)):
                msg = "segments overlap, and a label map holds one for each voxel; read masks"
                raise InputError(msg)
            labels[place] = values
        return labels

    def masks_on(self, source: SourceSlices) -> npt.NDArray[Any]:
        """Each segment by itself on the slices of an image.

        Returns:
            ``(segments, slices, rows, columns)`` in the order of ``segments``: bool, or for
            FRACTIONAL float32 from 0 to 1.

        Raises:
            InputError: the segments lie on another grid than the slices.
        """
        fractional = self.kind == "FRACTIONAL"
        shape = (len(self.segments), *source.shape)
        masks: npt.NDArray[Any] = np.zeros(shape, np.float32 if fractional else np.bool_)
        full = float(self._object.get("MaximumFractionalValue", 1))
        order = {segment.number: index for index, segment in enumerate(self.segments)}
        for frame in self._frames():
            rows, columns = np.nonzero(frame.pixels)
            values = frame.pixels[rows, columns]
            k, j, i = _indices(frame, source, rows, columns)
            if frame.segment is None:
                which = np.array([order[int(value)] for value in values], dtype=np.intp)
                masks[which, k, j, i] = True
            else:
                masks[order[frame.segment], k, j, i] = values / full if fractional else True
        return masks

    def _frames(self) -> Iterator[_Frame]:
        shared = self._object.SharedFunctionalGroupsSequence[0]
        for number, groups in enumerate(self._object.PerFrameFunctionalGroupsSequence, start=1):
            orientation = _macro("PlaneOrientationSequence", groups, shared)
            measures = _macro("PixelMeasuresSequence", groups, shared)
            row, column = np.reshape(
                np.array(orientation.ImageOrientationPatient, dtype=np.float64), (2, 3)
            )
            between_rows, between_columns = map(float, measures.PixelSpacing)
            position = _macro("PlanePositionSequence", groups, shared).ImagePositionPatient
            segment = None
            if self.kind != "LABELMAP":
                identification = _macro("SegmentIdentificationSequence", groups, shared)
                segment = int(identification.ReferencedSegmentNumber)
            yield _Frame(
                segment,
                self._object.get_stored_frame(number),
                np.array(position, dtype=np.float64),
                np.stack([column * between_rows, row * between_columns]),
                abs(float(measures.get("SpacingBetweenSlices") or 0)),
            )


def read_seg(path: Path) -> SegmentationFile:
    """Reads a DICOM segmentation object of any writer.

    Raises:
        InputError: the file is no segmentation object, or damaged.
        OSError: the file cannot be opened.
    """
    try:
        with warnings.catch_warnings(), files.open_plain(path) as file:
            warnings.simplefilter("ignore")
            dataset = files.read_dataset(file)
            if dataset.get("SOPClassUID") not in _CLASSES:
                msg = f"{path.name}: no DICOM SEG; give a segmentation object"
                raise InputError(msg)
            found = Segmentation.from_dataset(dataset, copy=False)
            segments = [_segment(found, number) for number in sorted(found.segment_numbers)]
    except (InputError, OSError):
        raise
    # A broken file can make the parsers fail in any way.
    except Exception as error:
        msg = f"{path.name}: not a whole DICOM SEG ({type(error).__name__}); export it again"
        raise InputError(msg) from error
    return SegmentationFile(tuple(segments), str(found.SegmentationType), found)


def _segment(found: Segmentation, number: int) -> Segment:
    description = found.get_segment_description(number)
    return Segment(
        int(number),
        description.segment_label,
        _code(description.segmented_property_category),
        _code(description.segmented_property_type),
        str(description.tracking_uid or ""),
    )


def _code(concept: Any) -> Code:
    return Code(concept.value, concept.scheme_designator, concept.meaning)


def _macro(name: str, *groups: Dataset) -> Dataset:
    for group in groups:
        if group.get(name):
            item: Dataset = group[name].value[0]
            return item
    msg = f"the SEG says nowhere in its {name} where a frame belongs; export it again"
    raise InputError(msg)


def _indices(
    frame: _Frame,
    source: SourceSlices,
    rows: Index,
    columns: Index,
) -> tuple[Index, Index, Index]:
    """``(slice, row, column)`` of the source at which pixels of a frame lie."""
    to_source = source.axes / np.array([[source.spacing[1]], [source.spacing[0]], [1.0]])
    starts = source.positions @ to_source.T  # (slices, 3): pixels along row and column, mm along n
    _check_steps(frame, to_source, starts[:, 2])
    along_row, along_column, along_normal = (
        (frame.position @ axis) + rows * (frame.steps[0] @ axis) + columns * (frame.steps[1] @ axis)
        for axis in to_source
    )
    middles = (starts[1:, 2] + starts[:-1, 2]) / 2
    k = np.searchsorted(middles, along_normal)
    off = np.abs(along_normal - starts[k, 2]) / _gap(starts[:, 2], source.thickness)
    x, y = along_row - starts[k, 0], along_column - starts[k, 1]
    j, i = np.rint(y).astype(np.intp), np.rint(x).astype(np.intp)
    if rows.size:
        worst = max(off.max(), np.abs(x - i).max(), np.abs(y - j).max())
        inside = min(i.min(), j.min()) >= 0 and i.max() < source.columns and j.max() < source.rows
        if worst > _OFF_GRID_VOXELS or not inside:
            raise _other_grid()
    return k, j, i


def _check_steps(frame: _Frame, to_source: Array, along: Array) -> None:
    """A pixel of the frame is as large as one of the source, along an axis of the source."""
    gap = _gap(along, 0.0)
    if gap:
        scale = np.array([1.0, 1.0, gap])
        steps = np.abs(frame.steps @ to_source.T / scale)
        units = np.isclose(steps, 1, atol=_STEP_TOLERANCE) | np.isclose(
            steps, 0, atol=_STEP_TOLERANCE
        )
        if not units.all() or not np.array_equal(np.rint(steps).sum(axis=1), [1, 1]):
            raise _other_grid()
        across = np.flatnonzero(np.rint(steps).sum(axis=0) == 0)
        # Frames along the slices' own normal: omitted frames are empty, those of a coarser grid
        # are not there.
        if across == 2 and frame.between_frames > 1.5 * np.diff(along).max():
            raise _other_grid()


def _gap(along: Array, otherwise: float) -> float:
    """The smallest distance between slices."""
    return float(np.diff(along).min()) if len(along) > 1 else otherwise


def _other_grid() -> InputError:
    return InputError("the SEG lies on another grid than the image; resample it to the image first")
