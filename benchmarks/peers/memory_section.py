"""Peak memory of one large CT, stage by stage: ``bench_memory_ct.py`` with few and many classes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.peers import measure
from benchmarks.peers.rows import Row

SCRIPT = Path(__file__).parents[1] / "bench_memory_ct.py"
NARROW = "4,8,16,32"  # what it takes to read, resample, stitch and write stays the same
LIMITS_GB = {6: 4.0, 100: 6.0}


def run(slices: int) -> list[Row]:
    """One row for each number of classes.

    Args:
        slices: of 512².
    """
    found: list[Row] = []
    for classes, limit in LIMITS_GB.items():
        words = ["--json", "--slices", str(slices), "--features", NARROW, "--classes", str(classes)]
        done = subprocess.run(
            [sys.executable, SCRIPT, *words],
            check=False,
            capture_output=True,
            text=True,
            env=os.environ | measure.paths(),
            cwd=measure.ROOT,
        )
        row: Row = {"name": f"512×512×{slices}, {classes} classes", "limit_gb": limit}
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            row |= {"reason": lines[-1], "stages": []}
        else:
            stages = [json.loads(line) for line in done.stdout.splitlines()]
            row |= {"reason": "", "stages": stages, "peak_gb": stages[-1]["peak"] / 1e9}
        print(f"{row['name']}: {row['reason'] or row['peak_gb']}", flush=True)
        found.append(row)
    return found
