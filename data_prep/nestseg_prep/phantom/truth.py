"""What a reader should make of a synthetic series: which slices belong together, where they lie."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from nestseg_prep.phantom.series import get_pixels
from nestseg_prep.volume import Volume

Array: TypeAlias = npt.NDArray[Any]
_LPS_TO_RAS: Final = np.array([-1.0, -1.0, 1.0])


class TrueSlice(NamedTuple):
    """One slice as it really is.

    Attributes:
        values: ``(rows, columns)`` true values.
        first: RAS mm of the first pixel.
        along_row: RAS mm from one column to the next.
        along_column: RAS mm from one row to the next.
    """

    values: Array
    first: Array
    along_row: Array
    along_column: Array

    @property
    def places(self) -> Array:
        """RAS mm of every pixel, ``(rows, columns, 3)`` (PS3.3 C.7.6.2.1.1)."""
        rows, columns = np.meshgrid(*map(np.arange, self.values.shape), indexing="ij")
        return np.asarray(
            self.first + columns[..., None] * self.along_row + rows[..., None] * self.along_column
        )


SliceName: TypeAlias = tuple[str, int]
"""SOPInstanceUID and number of the frame, from 0."""
Group: TypeAlias = Mapping[SliceName, TrueSlice]
"""The slices of one volume. Copies of a slice may both be there: a reader takes either."""
Truth: TypeAlias = Group | Volume
"""What a reader should make of DICOM slices, or of a file that is a volume by itself."""
Outcome: TypeAlias = Literal["read", "split", "refused"]


@dataclass(frozen=True)
class Kind:
    """One kind of odd input.

    Attributes:
        name: number and a few words.
        make: writes it into a folder and tells its true volumes; none where nobody could know.
        expected: what a careful reader does with it.
        codes: findings that must be made: those of a refusal, and of what is read all the same.
        asked: the same where a person asked for missing slices to be filled, for volumes of fewer
            than three slices, and for slices with a UID each to be taken for one series.
        said: what the volumes of a series are said to be, in their order.
    """

    name: str
    make: Callable[[Path], Sequence[Truth]]
    expected: Outcome = "read"
    codes: tuple[str, ...] = ()
    asked: Outcome | None = None
    said: tuple[str, ...] = ()


def true_slice(ds: Dataset) -> TrueSlice:
    """What a data set says of itself."""
    cosines = np.array(ds.ImageOrientationPatient, dtype=float)
    between_rows, between_columns = map(float, ds.PixelSpacing)
    stored = get_pixels(ds)
    return TrueSlice(
        stored * float(ds.get("RescaleSlope", 1)) + float(ds.get("RescaleIntercept", 0)),
        np.array(ds.ImagePositionPatient, dtype=float) * _LPS_TO_RAS,
        cosines[:3] * between_columns * _LPS_TO_RAS,
        cosines[3:] * between_rows * _LPS_TO_RAS,
    )


def group(series: Iterable[Dataset]) -> Group:
    """The volume of classic slices that are what their headers say."""
    return {(str(ds.SOPInstanceUID), 0): true_slice(ds) for ds in series}
