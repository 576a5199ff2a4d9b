"""What the tests of DICOM results share: sources, masks, and the validator of others."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from nestseg.outputs.dicom.algorithm import Algorithm
from nestseg.outputs.dicom.source import SourceSlices, read_source
from nestseg_prep.dicom.scan import scan
from nestseg_prep.phantom import Phantom, Series, write

NAMES = {1: "anterior hippocampus", 2: "posterior hippocampus", 3: "left kidney"}
ALGORITHM = Algorithm("hippocampus_unetpp", "0.1.0", "0123456789abcdef" * 4)


def source_in(folder: Path, series: Series) -> SourceSlices:
    """The slices of a series, once it is on disk and was scanned."""
    write(series, folder)
    (ref,) = scan(folder).accepted
    return read_source(ref)


def phantom_source(folder: Path, **kinds: str) -> SourceSlices:
    return source_in(folder, Phantom(**kinds).datasets())


def random_labels(shape: tuple[int, ...], seed: int = 0, highest: int = 3) -> np.ndarray:
    """Every label everywhere, but for two slices that are empty."""
    labels = np.random.default_rng(seed).integers(0, highest + 1, shape).astype(np.uint8)
    labels[[0, shape[0] // 2]] = 0
    return labels


def dicom_errors(path: Path) -> list[str]:
    """What dciodvfy (Debian's dicom3tools) calls an error."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not here: apt-get install dicom3tools")
    done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    assert "Segmentation" in done.stderr or "SR" in done.stderr, done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith("Error")]
