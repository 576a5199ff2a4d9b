"""A volume: the voxels of one image, where they lie in the patient, and where they came from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nestseg_prep import affine as affines
from nestseg_prep.errors import InputError
from nestseg_prep.fill import Range, without_fill
from nestseg_prep.source import SourceGrid


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels with their geometry.

    Attributes:
        array: ``(i, j, k)``; true values (HU for CT), not stored ones.
        affine: ``(4, 4)`` float64; voxel index → RAS+ patient coordinates in mm.
        series_uid: the DICOM SeriesInstanceUID, or ``None`` for a NIfTI file.
        sop_uids: SOPInstanceUID of each slice along ``k``; empty for a NIfTI file, and where the
            voxels are not the stored pixels but were resampled from them.
        source: where the stored slices lie in this grid, ``None`` for a NIfTI file.
        fill: for each plane ``k`` the lowest and highest value that stand where there is no image,
            empty if there are none; ``image`` is without them.
        is_picture: whether it is a PNG, TIFF or JPEG, whose voxels of 1 mm are pixels of any size.
        pixel_mm: width and height of such a pixel, where the file can be believed.

    Raises:
        InputError: if the array has not three axes, or the affine is not a finite, invertible
            ``(4, 4)`` with the last row ``0 0 0 1``, or the UIDs do not fit the slices.
    """

    array: npt.NDArray[np.generic]
    affine: npt.NDArray[np.float64]
    series_uid: str | None = None
    sop_uids: tuple[str, ...] = ()
    source: SourceGrid | None = None
    fill: tuple[Range | None, ...] = ()
    is_picture: bool = False
    pixel_mm: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        affine = np.asarray(self.affine, dtype=np.float64)
        if self.array.ndim != 3 or 0 in self.array.shape:
            msg = f"a volume needs three axes with voxels on each, got shape {self.array.shape}"
            raise InputError(msg)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            msg = f"an affine is 4x4 and finite, got shape {affine.shape}: check the image's header"
            raise InputError(msg)
        if affines.is_singular(affine):
            msg = "the affine is singular: two voxel axes coincide or one has no length"
            raise InputError(msg)
        if not np.array_equal(affine[3], [0.0, 0.0, 0.0, 1.0]):
            msg = f"the last row of an affine is 0 0 0 1, got {affine[3].tolist()}"
            raise InputError(msg)
        if self.sop_uids and len(self.sop_uids) != self.array.shape[2]:
            msg = f"{len(self.sop_uids)} SOPInstanceUIDs for {self.array.shape[2]} slices"
            raise InputError(msg)
        object.__setattr__(self, "affine", affine)

    def with_voxels(self, array: npt.NDArray[Any]) -> Volume:
        """Other values on the same voxels, such as a mask of this image.

        Args:
            array: ``(i, j, k)`` on the voxels of this volume.
        """
        return replace(self, array=array, fill=())

    @property
    def image(self) -> npt.NDArray[Any]:
        """The voxels for a network: the lowest value of the image where there is none."""
        return without_fill(self.array, self.fill)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along ``(i, j, k)``."""
        i, j, k = self.array.shape
        return i, j, k

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance in mm between neighbouring voxels along ``(i, j, k)``."""
        return affines.spacing(self.affine)


def to_source_slices(mask: npt.NDArray[Any], volume: Volume) -> npt.NDArray[Any]:
    """Takes a mask on the grid of a volume back to the pixels of the DICOM slices behind it.

    Each pixel of a stored slice gets the label of the voxel it lies in, also where the volume was
    resampled (tilted gantry, unequal distances): a mask drawn on the slices, laid on the grid and
    taken back is the same mask.

    Args:
        mask: ``(i, j, k)`` on the voxels of ``volume``.
        volume: as it was read from a DICOM series.

    Returns:
        ``(slices, rows, columns)`` of the mask's type: one image for each of
        ``volume.source.slices``, in that order, pixels in the order of their pixel data.

    Raises:
        InputError: the mask has another grid than the volume, or the volume no DICOM source.
    """
    if volume.source is None:
        msg = "a volume read from NIfTI has no DICOM slices; give the DICOM series instead"
        raise InputError(msg)
    if mask.shape != volume.shape:
        msg = f"a mask of {mask.shape} does not fit a volume of {volume.shape}"
        raise InputError(msg)
    return volume.source.take(mask)
