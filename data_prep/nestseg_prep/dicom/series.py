"""An accepted series → its volume: true values, every slice in its place."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from pydicom.dataset import FileDataset

from nestseg_prep.dicom import files
from nestseg_prep.dicom.findings import Code
from nestseg_prep.dicom.pixels import PixelError, stored_values
from nestseg_prep.dicom.references import SeriesRef
from nestseg_prep.errors import InputError
from nestseg_prep.fill import Range, without_fill
from nestseg_prep.volume import Volume

DType: TypeAlias = np.dtype[Any]

_AIR: Final = -1024.0  # HU
_INTEGERS: Final = (np.int16, np.uint16, np.int32)


def read_series(ref: SeriesRef) -> Volume:
    """Decodes the slices of a series into one array.

    Args:
        ref: an accepted DICOM series of a scan.

    Returns:
        ``(i, j, k)`` in the storage order of dcm2niix (``stack.Stack``), true values: the smallest
        integers that hold them where every slope and intercept is one, otherwise float32.

    Raises:
        InputError: the series was refused, or a file of it is gone, changed or cannot be decoded.
    """
    array = read_stored(ref)
    source, affine, shape = ref.source, ref.affine, ref.shape
    if source is None or affine is None or shape is None:
        msg = f"series {ref.key}: has no geometry; scan again"
        raise InputError(msg)
    fill = _fill(ref)
    if ref.resampled:
        # Interpolation would mix what is no image into what is.
        array = source.lay(without_fill(array, fill), shape)
        return Volume(array, affine, ref.series_uid, source=source)
    uids = tuple(one.sop_uid for one in ref.slices)
    return Volume(array, affine, ref.series_uid, uids, source, fill)


def read_stored(ref: SeriesRef) -> npt.NDArray[Any]:
    """Decodes the slices of a series as they are stored, without laying them on a grid.

    Returns:
        ``(columns, rows, slices)`` true values, rows upwards, slices in the order of
        ``ref.slices``.

    Raises:
        InputError: as ``read_series``.
    """
    if not ref.accepted or ref.source is None:
        msg = f"series {ref.key}: refused; {ref.refusal or 'not a DICOM series'}"
        raise InputError(msg)
    columns, rows, count = ref.source.columns, ref.source.rows, len(ref.slices)
    allowed = value_type(ref)
    # Sixteen stored bits and an intercept allow values that no scanner writes: twice the memory.
    kind = np.dtype(np.int16) if allowed == np.int32 else allowed
    # Fortran order: a slice is one piece of memory, as it is in the file.
    array = np.empty((columns, rows, count), dtype=kind, order="F")
    opened: tuple[object, FileDataset] | None = None
    for k, one in enumerate(ref.slices):
        try:
            if opened is None or opened[0] != one.path:
                with files.open_plain(one.path) as file:
                    opened = one.path, files.read_dataset(file)
            values = stored_values(opened[1], one.frame)
        except (files.NotDicomError, files.DamagedFileError, PixelError, OSError) as error:
            why = f" ({error})" if isinstance(error, PixelError) else ""
            msg = f"series {ref.key}: slice {k + 1} of {count} cannot be read{why}; send it again"
            raise InputError(msg) from error
        if values.shape != (rows, columns):
            msg = f"series {ref.key}: slice {k + 1} of {count} changed its size; scan again"
            raise InputError(msg)
        true = _rescaled(values, one.slope, one.intercept, allowed)
        if array.dtype != allowed and not _fits(true, array.dtype):
            array = array.astype(allowed, order="F")
        array[:, ::-1, k] = true.T
    return array


def _fill(ref: SeriesRef) -> tuple[Range | None, ...]:
    """The true values that stand where a slice has no image.

    In CT that is also whatever lies below air, declared or not.
    """
    in_hounsfield = ref.modality == "CT" and not any(
        finding.code is Code.RESCALE_MISSING for finding in ref.findings
    )
    ranges: list[Range | None] = []
    for one in ref.slices:
        ends = [one.slope * stored + one.intercept for stored in one.padding or ()]
        if in_hounsfield and max(ends, default=_AIR) <= _AIR:
            ranges.append((-np.inf, max([*ends, np.nextafter(_AIR, -np.inf)])))
        else:
            ranges.append((min(ends), max(ends)) if ends else None)
    return tuple(ranges) if any(ranges) else ()


def value_type(ref: SeriesRef) -> DType:
    """The smallest type that holds every true value the headers allow."""
    scales = {(one.slope, one.intercept) for one in ref.slices}
    if not all(slope.is_integer() and intercept.is_integer() for slope, intercept in scales):
        return np.dtype(np.float32)
    ends = [
        slope * stored + intercept for slope, intercept in scales for stored in ref.stored_range
    ]
    for integer in _INTEGERS:
        bounds = np.iinfo(integer)
        if bounds.min <= min(ends) and max(ends) <= bounds.max:
            return np.dtype(integer)
    return np.dtype(np.float32)


def _fits(values: npt.NDArray[Any], kind: DType) -> bool:
    bounds = np.iinfo(kind)
    return bool(bounds.min <= values.min() and values.max() <= bounds.max)


def _rescaled(
    values: npt.NDArray[Any], slope: float, intercept: float, dtype: DType
) -> npt.NDArray[Any]:
    if slope == 1 and intercept == 0:
        return values
    if dtype.kind == "f":
        return values.astype(np.float64) * slope + intercept
    return values.astype(np.int64) * int(slope) + int(intercept)
