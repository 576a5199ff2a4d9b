"""A volume: the voxels of one image, where they lie in the patient, and where they came from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Volume:
    """Voxels with their geometry.

    Attributes:
        array: ``(i, j, k)``; true values (HU for CT), not stored ones.
        affine: ``(4, 4)`` float64; voxel index → RAS+ patient coordinates in mm.
        series_uid: the DICOM SeriesInstanceUID, or ``None`` for a NIfTI file.
        sop_uids: SOPInstanceUID of each slice along ``k``, empty for a NIfTI file.
    """

    array: npt.NDArray[np.generic]
    affine: npt.NDArray[np.float64]
    series_uid: str | None = None
    sop_uids: tuple[str, ...] = ()
