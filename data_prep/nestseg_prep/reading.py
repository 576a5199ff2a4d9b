"""One door to the voxels of whatever a scan accepted."""

from __future__ import annotations

from nestseg_prep.dicom.references import SeriesRef
from nestseg_prep.dicom.series import read_series
from nestseg_prep.nifti import read_nifti
from nestseg_prep.picture import read_picture
from nestseg_prep.volume import Volume


def read_volume(ref: SeriesRef) -> Volume:
    """Reads an accepted series, DICOM or NIfTI, or a picture.

    Returns:
        ``(i, j, k)`` true values with the affine to RAS mm.

    Raises:
        InputError: the series was refused or cannot be read.
    """
    if ref.kind == "dicom":
        return read_series(ref)
    return read_picture(ref.files[0]) if ref.kind == "picture" else read_nifti(ref.files[0])
