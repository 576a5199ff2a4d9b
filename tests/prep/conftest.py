"""How the tests of the prep room look at a volume."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from pydicom.dataset import Dataset

from nestseg_prep.phantom import get_pixels
from nestseg_prep.volume import Volume


def largest_misplacement(volume: Volume, slices: Sequence[Dataset]) -> float:
    """Checks every value of a volume against the DICOM files it was made of.

    Written from PS3.3 C.7.6.2.1.1 alone, pixel by pixel: it shares nothing with the code under
    test.

    Returns:
        How far in mm the worst voxel lies from where its file says.
    """
    inverse = np.linalg.inv(volume.affine)
    worst = 0.0
    for ds in slices:
        columns, rows = np.meshgrid(np.arange(ds.Columns), np.arange(ds.Rows))
        cosines = np.array(ds.ImageOrientationPatient, dtype=float)
        between_rows, between_columns = map(float, ds.PixelSpacing)
        lps = (
            np.array(ds.ImagePositionPatient, dtype=float)
            + cosines[:3] * between_columns * columns[..., None]
            + cosines[3:] * between_rows * rows[..., None]
        )
        ras = lps * [-1.0, -1.0, 1.0]
        indices = ras @ inverse[:3, :3].T + inverse[:3, 3]
        nearest = np.round(indices).astype(int)
        away = (indices - nearest) @ volume.affine[:3, :3].T
        worst = max(worst, float(np.linalg.norm(away, axis=-1).max()))
        assert (nearest >= 0).all()
        assert (nearest < volume.shape).all()
        slope, intercept = ds.get("RescaleSlope", 1), ds.get("RescaleIntercept", 0)
        values = get_pixels(ds) * float(slope) + float(intercept)
        np.testing.assert_allclose(volume.array[tuple(nearest.T)].T, values, rtol=1e-6)
    assert volume.shape[2] == len(slices)
    return worst


@pytest.fixture
def misplacement() -> Callable[[Volume, Sequence[Dataset]], float]:
    return largest_misplacement
