"""The bundles that are compared: one network, one set of weights, two ways to run it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.peers import bundles, network, ways
from tests.opened import opened

PATCH = (32, 32, 32)


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / "configs" / name).read_text())


def test_both_configs_hold_the_same_network_tiles_and_intensities(
    weights: Path, tmp_path: Path
) -> None:
    folder = bundles.write(tmp_path, PATCH, ways.EQUAL)
    ours, stock = read(folder, "inference.json"), read(folder, "stock.json")
    assert ours["network_def"] == stock["network_def"]
    assert ours["roi_size"] == stock["inferer"]["roi_size"] == [32, 32, 32]
    assert ours["overlap"] == stock["inferer"]["overlap"] == 0.5
    before = stock["preprocessing"]["transforms"]
    assert before[-1] == ours["intensity"][0]
    assert before[-2]["pixdim"] == ours["load"][2]["pixdim"]
    assert (folder / "models" / "model.pt").read_bytes() == weights.read_bytes()


@pytest.mark.usefixtures("weights")
def test_ours_loads(tmp_path: Path) -> None:
    folder = bundles.write(tmp_path, PATCH, ways.QUARTER)
    found = opened(folder)
    assert len(found.info.labels) == network.CLASSES - 1


@pytest.mark.usefixtures("weights")
def test_our_tiling_and_a_calibrated_model_go_into_the_bundle(tmp_path: Path) -> None:
    (tmp_path / bundles.INT8).mkdir()
    (tmp_path / bundles.INT8 / "model.xml").write_text("<model/>")
    folder = bundles.write(tmp_path, PATCH, ways.OWN)
    assert read(folder, "inference.json")["inferer"]["background_at_most"] == -1.85
    assert (folder / "models" / "int8" / "model.xml").is_file()


@pytest.mark.usefixtures("weights")
def test_the_turned_network_answers_the_same_to_a_turned_volume() -> None:
    """What nnU-Net gets: ``(z, y, x)`` in the place of ``(x, y, z)``."""
    image = torch.randn(1, 1, 8, 12, 16)
    with torch.inference_mode():
        straight = network.build()(image)
        turned = network.build(transposed=True)(image.permute(0, 1, 4, 3, 2))
    torch.testing.assert_close(turned.permute(0, 1, 4, 3, 2), straight)
