"""Fixtures of the pipeline's tests."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from nestseg_prep.phantom import Phantom, set_pixels, write

torch.set_num_threads(1)  # the networks are tiny: threads would only wait for each other

MR_CROP = Phantom(
    name="crop",
    modality="MR",
    plane="oblique",
    columns=40,
    rows=36,
    slices=28,
    between_columns=0.9,
    between_rows=1.1,
    between_slices=1.3,
)
"""An oblique MR series of the size of a hippocampus crop, with unequal spacing."""


def blobs(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Smooth noise between 0 and 1000."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2.0)
    return np.asarray((noise - noise.min()) / np.ptp(noise) * 1000)


@pytest.fixture
def mr_series(tmp_path: Path) -> Path:
    """``MR_CROP`` with smooth noise, written as DICOM."""
    series = MR_CROP.datasets()
    image = blobs((MR_CROP.slices, MR_CROP.rows, MR_CROP.columns), seed=0)
    for ds, values in zip(series, image, strict=True):
        set_pixels(ds, values.astype(np.int32))
    folder = tmp_path / "mr"
    write(series, folder)
    return folder
