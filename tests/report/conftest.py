"""Fixtures of the report's tests."""

import shutil
from pathlib import Path

import pytest

from .runs import small_run


@pytest.fixture(scope="session")
def small_run_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is made once: its journal syncs each of its steps to the disk."""
    out = tmp_path_factory.mktemp("run")
    small_run(out)
    return out


@pytest.fixture
def run(small_run_once: Path, tmp_path: Path) -> Path:
    """The output folder of a small run: see :func:`small_run`."""
    return Path(shutil.copytree(small_run_once, tmp_path / "out"))
