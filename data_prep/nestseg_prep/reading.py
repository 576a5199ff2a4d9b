"""One door to the voxels of whatever a scan accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from nestseg_prep import nifti_header, volume_files
from nestseg_prep.dicom import formats
from nestseg_prep.dicom.references import SeriesRef
from nestseg_prep.dicom.series import read_series
from nestseg_prep.nifti import read_nifti
from nestseg_prep.picture import read_picture
from nestseg_prep.volume import Volume

SUFFIXES: Final = nifti_header.SUFFIXES + volume_files.SUFFIXES
"""How the names of files of volumes end."""


def read_volume(ref: SeriesRef) -> Volume:
    """Reads an accepted series: DICOM, a file of a volume, or a picture.

    Returns:
        ``(i, j, k)`` true values with the affine to RAS mm.

    Raises:
        InputError: the series was refused or cannot be read.
    """
    if ref.kind == "dicom":
        return read_series(ref)
    return read_picture(ref.files[0]) if ref.kind == "picture" else read_file(ref.files[0])


def read_file(path: Path) -> Volume:
    """Reads a file that holds one volume: NIfTI, NRRD, MetaImage or MGH, by its first bytes.

    Raises:
        InputError: it is damaged, or its geometry cannot be trusted.
        OSError: it cannot be opened.
    """
    path = Path(path)
    if formats.is_volume(formats.read_head(path)):
        return volume_files.read_volume_file(path)
    return read_nifti(path)
