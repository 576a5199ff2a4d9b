"""What the tests of DICOM results share: sources, masks, and the validator of others."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from pydicom import Dataset, dcmread
from pydicom.uid import UID

from nestseg.outputs.dicom.algorithm import Algorithm
from nestseg.outputs.dicom.source import SourceSlices, read_source
from nestseg_prep.dicom.scan import scan
from nestseg_prep.phantom import Phantom, Series, shuffled, write

NAMES = {1: "anterior hippocampus", 2: "posterior hippocampus", 3: "left kidney"}
ALGORITHM = Algorithm("hippocampus_unetpp", "0.1.0", "0123456789abcdef" * 4)


def source_in(folder: Path, series: Series) -> SourceSlices:
    """The slices of a series, once it is on disk and was scanned."""
    write(series, folder)
    (ref,) = scan(folder).accepted
    return read_source(ref)


def phantom_source(folder: Path, **kinds: str) -> SourceSlices:
    return source_in(folder, Phantom(**kinds).datasets())


def enhanced_source(folder: Path) -> tuple[Dataset, SourceSlices]:
    """One multi-frame object (2.25.12) whose frames are not in the order of their places."""
    paths = write(Phantom().datasets(), folder / "classic")
    frames = [dcmread(paths[number]) for number in shuffled(12)]
    enhanced = LegacyConvertedEnhancedCTImage(frames, UID("2.25.11"), 1, UID("2.25.12"), 1)
    (folder / "in").mkdir()
    enhanced.save_as(folder / "in" / "enhanced")
    (ref,) = scan(folder / "in").accepted
    return enhanced, read_source(ref)


def random_labels(shape: tuple[int, ...], seed: int = 0, highest: int = 3) -> np.ndarray:
    """Every label everywhere, but for two slices that are empty."""
    labels = np.random.default_rng(seed).integers(0, highest + 1, shape).astype(np.uint8)
    labels[[0, shape[0] // 2]] = 0
    return labels


def blocks(shape: tuple[int, ...], highest: int = 3) -> np.ndarray:
    """Labels in blocks of six voxels a side: few contours."""
    size = tuple(side // 6 + 1 for side in shape)
    coarse = np.random.default_rng(0).integers(0, highest + 1, size).astype(np.uint8)
    labels = coarse.repeat(6, 0).repeat(6, 1).repeat(6, 2)
    return labels[tuple(slice(side) for side in shape)]


def dicom_errors(path: Path) -> list[str]:
    """What dciodvfy (Debian's dicom3tools) calls an error."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not here: apt-get install dicom3tools")
    done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    kinds = {"Segmentation", "Comprehensive3DSR", "RTStructureSet"}
    assert kinds & set(done.stderr.splitlines()), done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith("Error")]
