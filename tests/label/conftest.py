"""Studies for a label server."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def hippocampus(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of studies with five images."""
    studies = tmp_path_factory.mktemp("hippocampus") / "studies"
    studies.mkdir()
    images = sorted((shared_data / "volumes" / "hippocampus_msd04" / "images").glob("*.nii.gz"))
    for path in images[:5]:
        shutil.copyfile(path, studies / path.name)
    return studies
