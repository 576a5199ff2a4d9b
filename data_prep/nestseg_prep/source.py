"""The stored slices behind a volume, and how a mask finds its way back to them. Arithmetic only.

Most volumes hold the stored pixels themselves. Slices of a tilted gantry, or at unequal distances,
are resampled to an orthogonal grid for the network; rows, columns and pixel size stay those of the
slices, so that the way back is a whole number of voxels for each slice and loses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


class SourceSlice(NamedTuple):
    """One stored slice.

    Attributes:
        sop_uid: SOPInstanceUID of its object.
        frame: number of the frame within the object, from 0 (DICOM counts them from 1).
    """

    sop_uid: str
    frame: int


@dataclass(frozen=True, eq=False)
class SourceGrid:
    """Where the pixels of the stored slices lie among the voxels of a volume.

    Attributes:
        slices: the stored slices, ascending along their normal.
        rows: pixels along a column of each.
        columns: pixels along a row of each.
        first_pixels: ``(slices, 3)`` float64; index ``(i, j, k)`` of the place of each slice's
            first pixel. Pixel ``(row, column)`` lies at ``first_pixel + (column, -row, 0)``, since
            volumes are stored with rows upwards.
    """

    slices: tuple[SourceSlice, ...]
    rows: int
    columns: int
    first_pixels: npt.NDArray[np.float64]

    @property
    def nearest(self) -> npt.NDArray[np.int64]:
        """``first_pixels`` in whole voxels, ``(slices, 3)``."""
        return np.floor(self.first_pixels + 0.5).astype(np.int64)

    def holds_voxels_of(self, shape: tuple[int, int, int]) -> bool:
        """Whether a grid of that shape holds exactly the stored pixels: nothing was resampled."""
        stored = np.zeros_like(self.first_pixels)
        stored[:, 1] = self.rows - 1
        stored[:, 2] = np.arange(len(self.slices))
        whole = (self.columns, self.rows, len(self.slices)) == tuple(shape)
        return whole and np.array_equal(self.first_pixels, stored)

    def take(self, array: Array) -> Array:
        """The values of a grid at the stored pixels, the nearest voxel for each.

        Args:
            array: ``(i, j, k)``.

        Returns:
            ``(slices, rows, columns)``, rows and columns in the order of the pixel data.
        """
        # Rows downwards, as they are stored.
        upright = array[:, ::-1]
        last = array.shape[1] - 1
        taken = np.empty((len(self.slices), self.rows, self.columns), array.dtype)
        for number, (i, j, k) in enumerate(self.nearest):
            top = last - j
            taken[number] = upright[i : i + self.columns, top : top + self.rows, k].T
        return taken

    def lay(self, stored: Array, shape: tuple[int, int, int]) -> Array:
        """Interpolates stored slices onto the grid, linearly: the way there of ``take``.

        Voxels in which no pixel of a plane lies get the lowest value.

        Args:
            stored: ``(columns, rows, slices)`` in the storage order of volumes (rows upwards).
            shape: of the grid.

        Returns:
            ``(i, j, k)`` of the same type; integers are rounded.
        """
        outside = stored.min()
        laid = np.full(shape, outside, stored.dtype, order="F")
        depths = self.first_pixels[:, 2]
        for k in range(shape[2]):
            above = int(np.clip(np.searchsorted(depths, k), 1, len(depths) - 1))
            gap = depths[above] - depths[above - 1]
            weight = float(np.clip((k - depths[above - 1]) / gap, 0, 1))
            plane = np.zeros(shape[:2])
            for number, share in ((above - 1, 1 - weight), (above, weight)):
                if share:
                    plane += share * self._shifted(stored, number, shape, float(outside))
            laid[:, :, k] = np.rint(plane) if stored.dtype.kind in "iu" else plane
        return laid

    def _shifted(
        self, stored: Array, number: int, shape: tuple[int, int, int], fill: float
    ) -> Array:
        """One slice moved in its plane by the part of a pixel that it lies off the grid."""
        image = stored[:, :, number].astype(np.float64)
        (x, y, _), (i, j, _) = self.first_pixels[number], self.nearest[number]
        for axis, off in ((0, i - x), (1, j - y)):
            size = image.shape[axis]
            at = np.clip(np.arange(size) + off, 0, size - 1)
            low = np.minimum(at.astype(int), max(size - 2, 0))
            share = (at - low).reshape((-1, 1) if axis == 0 else (1, -1))
            high = np.minimum(low + 1, size - 1)
            image = image.take(low, axis) * (1 - share) + image.take(high, axis) * share
        plane = np.full(shape[:2], fill)
        bottom = j - self.rows + 1
        plane[i : i + self.columns, bottom : bottom + self.rows] = image
        return plane
