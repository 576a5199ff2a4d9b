"""The CT of the benchmarks: known labels, the same voxels as DICOM and as NIfTI."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.peers.phantom import AIR, NOISE_HU, make
from benchmarks.peers.phantom_labels import LABELS, ORGANS
from nestseg_prep import affine as affines
from nestseg_prep.dicom.scan import scan
from nestseg_prep.nifti import read_nifti
from nestseg_prep.reading import read_volume

SHAPE, SPACING = (48, 40, 30), (4.0, 4.5, 8.0)


def test_dicom_and_nifti_hold_the_same_voxels_in_the_same_place(tmp_path: Path) -> None:
    made = make(SHAPE, SPACING, seed=3)
    made.write_dicom(tmp_path / "series")
    made.write_nifti(tmp_path / "ct.nii.gz")
    made.write_truth(tmp_path / "truth.nii.gz")
    (ref,) = scan(tmp_path / "series").series
    series, nifti, truth = (
        read_volume(ref),
        read_nifti(tmp_path / "ct.nii.gz"),
        read_nifti(tmp_path / "truth.nii.gz"),
    )
    assert np.array_equal(series.array, nifti.array)
    for other in (nifti, truth):
        assert affines.corner_distance(series.affine, other.affine, SHAPE) < 0.01
    assert np.array_equal(truth.array, made.labels.array)


def test_every_organ_has_its_density_where_its_label_is() -> None:
    made = make(SHAPE, SPACING, seed=3)
    hu, labels = made.series.truth.array, made.labels.array
    assert set(np.unique(labels)) == set(LABELS)
    for number, (name, value, *_) in enumerate(ORGANS, start=1):
        found = hu[labels == number]
        assert abs(np.median(found) - value) < NOISE_HU, name
    assert abs(np.median(hu[0]) - AIR) < NOISE_HU  # beside the body


def test_seeds_are_patients() -> None:
    first, again, other = (make(SHAPE, SPACING, seed, "name") for seed in (1, 1, 2))
    assert np.array_equal(first.series.hu, again.series.hu)
    assert not np.array_equal(first.labels.array, other.labels.array)
