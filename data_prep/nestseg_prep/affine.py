"""Affines: where voxels lie in the patient. Arithmetic only.

An affine is ``(4, 4)`` float64 and maps a voxel index ``(i, j, k, 1)`` to a point in mm. DICOM
counts patient axes towards Left, Posterior, Superior (LPS); NIfTI towards Right, Anterior,
Superior (RAS). Everything in this package is RAS unless a name says otherwise.
"""

from __future__ import annotations

import itertools
from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Affine: TypeAlias = npt.NDArray[np.float64]
Orientation: TypeAlias = Literal["axial", "coronal", "sagittal", "oblique"]

_FLIP_XY: Final = np.diag([-1.0, -1.0, 1.0, 1.0])
_PLANES: Final[tuple[Orientation, ...]] = ("sagittal", "coronal", "axial")
# A head tilted by less than about 37 degrees is still called axial in the radiologist's room.
_NAMED_PLANE_COSINE: Final = 0.8


def swap_lps_ras(affine: npt.ArrayLike) -> Affine:
    """Turns an affine into LPS patient coordinates to one into RAS, or back.

    Args:
        affine: ``(4, 4)``, voxel index → mm.

    Returns:
        ``(4, 4)``: the same points with x and y negated.
    """
    return np.asarray(_FLIP_XY @ np.asarray(affine, dtype=np.float64))


def spacing(affine: npt.ArrayLike) -> tuple[float, float, float]:
    """Distance in mm between neighbouring voxels, per array axis."""
    i, j, k = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)
    return float(i), float(j), float(k)


def directions(affine: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Unit vectors of the array axes in patient coordinates, as the columns of a ``(3, 3)``."""
    matrix = np.asarray(affine, dtype=np.float64)[:3, :3]
    return np.asarray(matrix / np.linalg.norm(matrix, axis=0))


def axis_codes(affine: npt.ArrayLike) -> str:
    """Three letters: the patient direction that each array axis of a RAS affine runs along.

    Each array axis gets a patient axis of its own, also when the grid lies at 45 degrees.

    Example:
        >>> axis_codes(np.diag([-1.0, 1.0, 2.5, 1.0]))
        'LAS'
    """
    cosines = directions(affine)
    best = max(
        itertools.permutations(range(3)),
        key=lambda order: sum(abs(cosines[world, axis]) for axis, world in enumerate(order)),
    )
    return "".join(
        "RAS"[world] if cosines[world, axis] > 0 else "LPI"[world]
        for axis, world in enumerate(best)
    )


def orientation(affine: npt.ArrayLike, slice_axis: int = 2) -> Orientation:
    """Name of the plane that the slices across ``slice_axis`` lie in."""
    cosines = np.abs(directions(affine)[:, slice_axis])
    world = int(np.argmax(cosines))
    return _PLANES[world] if cosines[world] > _NAMED_PLANE_COSINE else "oblique"


def shear(affine: npt.ArrayLike) -> float:
    """Largest cosine between two array axes: 0 where all three stand at right angles."""
    gram = directions(affine).T @ directions(affine)
    return float(np.max(np.abs(gram - np.diag(np.diag(gram)))))


def is_orthogonal(affine: npt.ArrayLike, tolerance: float = 1e-3) -> bool:
    """Whether the array axes stand at right angles, to within ``tolerance`` (a cosine)."""
    return shear(affine) <= tolerance


def straightened(affine: npt.ArrayLike, shape: tuple[int, int, int]) -> Affine:
    """The nearest affine with axes at right angles, same spacing and same centre of a grid."""
    given = np.asarray(affine, dtype=np.float64)
    left, _, right = np.linalg.svd(directions(given))
    result = given.copy()
    result[:3, :3] = left @ right * spacing(given)
    centre = (np.array(shape) - 1) / 2
    result[:3, 3] += (given[:3, :3] - result[:3, :3]) @ centre
    return result


def is_singular(affine: npt.ArrayLike) -> bool:
    """Whether two array axes coincide, or one has no length, whatever the size of a voxel."""
    matrix = np.asarray(affine, dtype=np.float64)[:3, :3]
    lengths = np.linalg.norm(matrix, axis=0)
    return bool(lengths.min() <= 0 or abs(np.linalg.det(matrix / lengths)) < 1e-6)


def corner_distance(
    first: npt.ArrayLike, second: npt.ArrayLike, shape: tuple[int, int, int]
) -> float:
    """Largest distance in mm between the places two affines give to a corner voxel of a grid.

    Affines are linear, so no voxel inside the grid lies further apart than its worst corner.
    """
    ends = [(0.0, float(size - 1)) for size in shape]
    corners = np.array([(*index, 1.0) for index in itertools.product(*ends)])
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    return float(np.max(np.linalg.norm((corners @ difference.T)[:, :3], axis=1)))
