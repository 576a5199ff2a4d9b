"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

# Tests leave what was measured and compiled on this machine alone, and begin with nothing.
_CACHE = TemporaryDirectory()
os.environ["NESTSEG_CACHE"] = _CACHE.name

# Tests leave the user's own key and trusted bundles alone, and give the same names everywhere.
_STATE = TemporaryDirectory()
os.environ["XDG_STATE_HOME"] = _STATE.name
os.environ["NESTSEG_KEY"] = "the key of the tests"


def pytest_unconfigure() -> None:
    _CACHE.cleanup()
    _STATE.cleanup()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real images with known truth, which are too large for the repository.

    They lie beside the checkout, or where ``NESTSEG_SHARED_DATA`` says.
    """
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("NESTSEG_SHARED_DATA", beside))
    if not folder.is_dir():
        pytest.skip("the shared image data are not here: set NESTSEG_SHARED_DATA to their folder")
    return folder
