"""Weights in half precision."""

from pathlib import Path

import pytest
import torch

from nestseg.networks import GridUNet
from nestseg.networks.weights import read_state_dict, store_half


def test_halved_weights_take_half_the_room_and_load_strictly(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = GridUNet(2, 1, 2, (8, 16, 32), norm="batch").eval()
    path = tmp_path / "model.pt"
    torch.save(network.state_dict(), path)
    before = path.stat().st_size
    image = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        logits = network(image)
        store_half(path)
        network.load_state_dict(read_state_dict(path), strict=True)
        assert path.stat().st_size < 0.6 * before
        assert next(network.parameters()).dtype == torch.float32
        torch.testing.assert_close(network(image), logits, atol=0.02, rtol=0.02)
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def test_what_half_precision_cannot_hold_stays(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    large, count = torch.tensor([1e6]), torch.tensor(3)
    torch.save({"var": large, "count": count}, path)
    store_half(path)
    found = read_state_dict(path)
    assert torch.equal(found["var"], large)
    assert torch.equal(found["count"], count)
    assert found["count"].dtype == torch.int64


def test_a_file_that_holds_no_weights_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"model\.pt"):
        store_half(path)
    assert path.read_bytes() == b"no weights"
