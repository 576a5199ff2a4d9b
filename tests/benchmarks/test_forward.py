"""Ours and MONAI's sliding window on the same volume, timed alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers import bundles, forward, inputs, ways
from benchmarks.peers.measure import UNAVAILABLE
from benchmarks.peers.phantom import make

PATCH = (32, 32, 32)


@pytest.fixture
def folder(weights: Path, tmp_path: Path) -> Path:
    """With a volume, its truth, and both on the network's grid."""
    assert weights.is_file()
    made = make((48, 41, 30), (1.7, 1.6, 2.0), seed=0)  # 54 × 44 × 40 voxels: nothing is padded
    made.write_nifti(tmp_path / "image.nii.gz")
    made.write_truth(tmp_path / "truth.nii.gz")
    inputs._on_network_grid(tmp_path, tmp_path / "image.nii.gz", tmp_path / "truth.nii.gz")
    return tmp_path


def test_equal_tiles_give_monais_labels(folder: Path) -> None:
    bundle = bundles.write(folder, PATCH, ways.EQUAL)
    ours, seconds = forward.nestseg(bundle, folder / "image.nii.gz", {})
    theirs, other = forward.monai(folder / "image.npy", PATCH, ways.STOCK_OVERLAP)
    assert ours.shape == theirs.shape == np.load(folder / "truth.npy").shape
    assert len(np.unique(theirs)) > 2
    assert (ours == theirs).mean() > 0.999  # the order of sums
    assert seconds.keys() == other.keys() == {"tile_s", "forward_s"}
    assert min(*seconds.values(), *other.values()) > 0


def test_what_is_not_there_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = bundles.write(folder, PATCH, ways.EQUAL)
    with pytest.raises(SystemExit) as ended:
        forward.nestseg(bundle, folder / "image.nii.gz", {"precision": "fp3"})
    assert ended.value.code == UNAVAILABLE
    assert "precision" in capsys.readouterr().err
