"""A CT of 512 × 512 × 1000 voxels with five structures, in a process of 6 GB."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "bench_memory_ct.py"
LIMIT = 6_000_000_000

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="only Linux tells a process its peak memory"
)


def stages(*arguments: str) -> list[dict]:
    done = subprocess.run(
        [sys.executable, BENCHMARK, "--json", *arguments],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(told: list[dict]) -> None:
    names = [stage["stage"] for stage in told]
    assert names[-1] == "write the mask"
    assert told[-1]["peak"] < LIMIT
    (segmented,) = [stage for stage in told if stage["stage"] == "segment"]
    assert 0 <= segmented["uncertainty"] <= 1
    assert sum(next(s for s in told if s["stage"] == "volumes")["ml"].values()) > 0


@pytest.mark.slow
def test_a_large_ct_is_segmented_within_six_gigabytes() -> None:
    """The volume is of its true size; the network has a quarter of the bundle's features."""
    check(stages("--features", "4,8,16,32"))


@pytest.mark.slow
def test_the_tiles_of_the_bundles_own_network_fit_as_well() -> None:
    """The same path with the bundle's own network and weights, on fewer slices."""
    told = stages("--slices", "288")
    check(told)
    assert told[-1]["peak"] < LIMIT / 2
