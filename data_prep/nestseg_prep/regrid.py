"""From one voxel grid to another, plane by plane: the way back of a label map.

Resampling a whole volume at once needs three coordinates per voxel, in double precision 6 GB for
512 × 512 × 1000 voxels. Here one plane's are held at a time; and where the axes of the two grids
run along the same lines (turned, flipped, another spacing), an index per row and column does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

_STRAIGHT: Final = 1e-6
"""How far axes that are parallel may drift apart over the whole grid, in voxels."""
_DIGITS: Final = 9

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.intp]


class Line(NamedTuple):
    """Where the voxels along a target axis lie between two voxels of the source axis along it.

    Attributes:
        axis: of the source.
        low: the voxel before, one for each voxel of the target.
        high: the voxel behind; the same where the axis has one voxel.
        weight: of ``high``, 0 to 1; beyond an edge the edge's voxel counts alone.
    """

    axis: int
    low: Indices
    high: Indices
    weight: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Regrid:
    """How the voxels of a target grid lie in a source grid.

    Attributes:
        to_source: ``(4, 4)``; index of a target voxel → coordinates in source voxels.
        source: shape of the source grid.
        target: shape of the target grid.
    """

    to_source: npt.NDArray[np.float64]
    source: tuple[int, int, int]
    target: tuple[int, int, int]

    @classmethod
    def between(
        cls,
        source_affine: npt.ArrayLike,
        source: Sequence[int],
        target_affine: npt.ArrayLike,
        target: Sequence[int],
    ) -> Regrid:
        """The map between two grids that lie in one patient; affines map a voxel index to mm."""
        matrix = np.linalg.solve(
            np.asarray(source_affine, np.float64), np.asarray(target_affine, np.float64)
        )
        (a, b, c), (i, j, k) = source, target
        return cls(matrix, (a, b, c), (i, j, k))

    def nearest(self, array: Array, planes: slice = slice(None)) -> Array:
        """The value of the nearest source voxel for each target voxel; beyond an edge the edge's.

        Args:
            array: ``(i, j, k)`` on the source grid.
            planes: along ``k`` of the target grid.

        Returns:
            These planes of the target grid, of the same type, the first axis fastest in memory.
        """
        wanted = range(*planes.indices(self.target[2]))
        out = np.empty((*self.target[:2], len(wanted)), array.dtype, order="F")
        axes = self._parallel()
        if axes is None:
            for place, k in enumerate(wanted):
                out[:, :, place] = array[self._plane(k)]
            return out
        turned = array.transpose(axes)
        i, j, k_of = (self._along(k, axis) for k, axis in enumerate(axes))
        for place, k in enumerate(wanted):
            out[:, :, place] = turned[:, :, k_of[k]][i[:, None], j]
        return out

    def lines(self) -> tuple[Line, ...] | None:
        """For each target axis how its voxels lie along the source; ``None`` if axes lie across."""
        axes = self._parallel()
        if axes is None:
            return None
        return tuple(self._line(k, axis) for k, axis in enumerate(axes))

    def _line(self, axis: int, source_axis: int) -> Line:
        last = self.source[source_axis] - 1
        places = self._places(axis, source_axis).round(_DIGITS).clip(0, last)
        low = np.floor(places).astype(np.intp).clip(0, max(0, last - 1))
        return Line(source_axis, low, np.minimum(low + 1, last), places - low)

    def _parallel(self) -> tuple[int, ...] | None:
        """For each target axis the source axis along it; ``None`` if one lies across."""
        matrix = self.to_source[:3, :3]
        axes = tuple(int(axis) for axis in np.abs(matrix).argmax(axis=0))
        across = matrix.copy()
        across[axes, range(3)] = 0
        drift = (np.abs(across) * np.asarray(self.target)).sum(axis=1).max()
        return axes if len(set(axes)) == 3 and drift <= _STRAIGHT else None

    def _along(self, axis: int, source_axis: int) -> Indices:
        return _index(self._places(axis, source_axis), self.source[source_axis])

    def _places(self, axis: int, source_axis: int) -> npt.NDArray[np.float64]:
        start, step = self.to_source[source_axis, 3], self.to_source[source_axis, axis]
        return np.asarray(start + step * np.arange(self.target[axis]))

    def _plane(self, k: int) -> tuple[Indices, ...]:
        i, j = (np.arange(size, dtype=np.float64) for size in self.target[:2])
        return tuple(
            _index(row[0] * i[:, None] + row[1] * j + (row[2] * k + row[3]), size)
            for row, size in zip(self.to_source[:3], self.source, strict=True)
        )


def _index(places: npt.NDArray[np.float64], size: int) -> Indices:
    # Half-way between two voxels both are nearest, and rint takes the even one. Rounding first
    # makes 2.4999999999 the 2.5 that it stands for, whatever the grid's distance from the origin.
    nearest = np.rint(places.round(_DIGITS)).astype(np.intp)
    return np.asarray(nearest.clip(0, size - 1))
