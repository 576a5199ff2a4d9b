"""The whole comparison, tiny, with the peers themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.peers import environment, measure, network, ways

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
    forward, whole = ({row["name"]: row for row in sections[k]} for k in ("forward", "whole"))
    ours, wanted = "nestseg as installed, equal tiles", {peer.name for peer in ways.PEERS}
    assert set(forward[ours]["agreement"]) == set(whole[ours]["agreement"]) == wanted
    for peer in forward[ours]["agreement"].values():
        assert peer["dice"] > 0.99  # the same tiles, of which those of nnU-Net are laid elsewhere
    for peer in whole[ours]["agreement"].values():
        assert peer["dice"] > 0.9  # each has its own resampling, and the masks are small
    for name in (ours, *wanted):
        for row in (forward[name], whole[name]):
            assert row["median"]["wall_s"] > 0
            assert 0.1 < row["median"]["peak_gb"] < psutil.virtual_memory().total / 1e9
