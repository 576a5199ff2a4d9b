"""What the tests of the comparison share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.peers import network
from nestseg.networks import GridUNet


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a small network without training."""
    monkeypatch.setattr(network, "ARGUMENTS", network.ARGUMENTS | {"features": [2, 4]})
    monkeypatch.setattr(network, "WEIGHTS", tmp_path / "weights.pt")
    torch.manual_seed(0)
    torch.save(GridUNet(**network.ARGUMENTS).state_dict(), network.WEIGHTS)
    return network.WEIGHTS
