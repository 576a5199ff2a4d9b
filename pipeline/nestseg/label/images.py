"""Images as MONAI Label's clients have them → volumes, and masks → files that they read."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import SimpleITK as sitk  # noqa: N813

from nestseg_prep.errors import InputError
from nestseg_prep.images import ITK, NIFTI, ending, series_at, to_itk
from nestseg_prep.nifti import write_nifti
from nestseg_prep.nifti_header import LABELS
from nestseg_prep.picture import SUFFIXES as PICTURES
from nestseg_prep.picture import write_picture
from nestseg_prep.reading import read_file, read_volume
from nestseg_prep.volume import Volume

_PICTURE: Final = ".png"


def read_labels(path: Path) -> Volume:
    """A label map that a client sent, NIfTI or NRRD: whole numbers.

    Raises:
        InputError: it cannot be read, or holds fractions or numbers below 0.
    """
    picture = ending(path) in PICTURES
    labels = read_volume(series_at(path)) if picture else read_file(path)
    array = np.asarray(labels.array)
    whole = np.rint(array.astype(np.float64))
    if not np.array_equal(whole, array) or whole.min() < 0 or whole.max() > np.iinfo("u2").max:
        raise InputError("the label holds other numbers than classes; export it as a label map")
    kind = np.uint8 if whole.max() < 256 else np.uint16
    return Volume(whole.astype(kind), labels.affine)


def write_labels(labels: Volume, suffix: str, *, compress: bool = True, dtype: Any = None) -> Path:
    """Write a label map as a temporary file of a kind that a client asks for.

    Args:
        labels: the label map.
        suffix: ``.nii.gz``, ``.nrrd``, ``.png``, …
        compress: whether NRRD is compressed; OHIF reads plain NRRD alone.
        dtype: NumPy's name of another type than that of ``labels``.

    Raises:
        InputError: no such kind of file, or no such type.
    """
    try:
        array = labels.array if dtype is None else labels.array.astype(np.dtype(dtype))
    except TypeError as error:
        raise InputError(f"{dtype}: no type of NumPy; ask for uint8") from error
    kind = _PICTURE if suffix in PICTURES else suffix
    with tempfile.NamedTemporaryFile(suffix=kind, delete=False) as file:
        path = Path(file.name)
    typed = Volume(array, labels.affine)
    if kind in NIFTI:
        write_nifti(typed, path, mark=LABELS)
    elif kind == _PICTURE:
        write_picture(typed, path)
    elif kind in (*ITK, ".seg.nrrd"):
        # OHIF takes the bytes as they lie, whatever the header says: in the order of the pixels.
        stored = typed if labels.series_uid is None else _rows_downwards(typed)
        sitk.WriteImage(to_itk(stored), str(path), useCompression=compress)
    else:
        path.unlink()
        raise InputError(f"{suffix}: no kind of label map; ask for .nii.gz or .nrrd")
    return path


def _rows_downwards(volume: Volume) -> Volume:
    """A volume of a DICOM series with its rows from first to last, as DICOM stores them."""
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 1] * (volume.array.shape[1] - 1)
    affine[:3, 1] *= -1
    return Volume(volume.array[:, ::-1], affine)
