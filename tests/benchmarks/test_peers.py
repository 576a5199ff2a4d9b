"""The whole comparison, tiny, with the peers themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.peers import environment, measure, network

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not environment.is_there(), reason="`make bench` makes nnU-Net's room"),
    pytest.mark.skipif(not network.WEIGHTS.is_file(), reason="`make bench-weights` makes them"),
]


def test_ours_and_the_peers_agree_on_a_tiny_phantom(tmp_path: Path) -> None:
    words = ["--size", "tiny", "--sections", "forward,whole", "--ways", "as installed"]
    words += ["--folder", str(tmp_path / "data"), "--json", str(tmp_path / "found.json")]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers", *words],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | measure.paths(),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    sections = json.loads((tmp_path / "found.json").read_text())["sections"]
    forward, whole = ({row["program"]: row for row in sections[k]} for k in ("forward", "whole"))
    assert set(forward) == set(whole) == {"monai", "nnunet", "nestseg"}
    for peer in forward["nestseg"]["agreement"].values():
        assert peer["dice"] > 0.99  # the same tiles, of which those of nnU-Net are laid elsewhere
    for peer in whole["nestseg"]["agreement"].values():
        assert peer["dice"] > 0.9  # each has its own resampling, and the masks are small
    for row in (*forward.values(), *whole.values()):
        assert row["median"]["wall_s"] > 0
        assert 1e8 < row["median"]["peak_gb"] * 1e9 < measure.psutil.virtual_memory().total
