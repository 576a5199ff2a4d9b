"""What a worker costs, and what it gains to read and write other cases while one is computed.

Finely sampled MR crops go through a pool with one worker, overlapped and one by one, A B A B. The
pools are warm: the time to start a worker is measured apart. Prints a Markdown table and writes
``results/<date>-batch-overlap.json``.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np

from nestseg.batch.jobs import Job, Limits, Outcome, Settings
from nestseg.batch.local import LocalPool
from nestseg.bundle import locate
from nestseg_prep.dicom.references import SeriesRef
from nestseg_prep.dicom.scan import scan
from nestseg_prep.nifti import write_nifti
from nestseg_prep.volume import Volume

BUNDLE = "hippocampus_unetpp"
ROUNDS = 3
CASES = 5
VOXELS = 160
SPACING_MM = 0.3
PLENTY = Limits(memory_mb=1_000_000)  # any limit of memory makes a worker take one case at a time


def make_images(folder: Path) -> list[SeriesRef]:
    """Finely sampled MR crops of noise: much to read and write for what there is to compute."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    affine = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    for number in range(CASES):
        array = rng.integers(0, 2000, (VOXELS,) * 3).astype(np.int16)
        write_nifti(Volume(array, affine), folder / f"{number}.nii.gz")
    return list(scan(folder).series)


def start(limits: Limits) -> tuple[LocalPool, float]:
    """A pool of one worker, and the seconds until it was ready."""
    begin = time.perf_counter()
    pool = LocalPool(Settings(locate.find(BUNDLE), threads=1), limits, 1)
    pool.ready()
    return pool, time.perf_counter() - begin


def run(pool: LocalPool, series: list[SeriesRef], out: Path) -> dict[str, Any]:
    """Segment all series once."""
    out.mkdir()
    jobs = [Job(f"case{number}", ref, 1, out / f"{number}") for number, ref in enumerate(series)]
    outcomes: list[Outcome] = []
    begin = time.perf_counter()
    while len(outcomes) < len(series):
        while jobs and pool.free:
            pool.submit(jobs.pop())
        outcomes += pool.wait(1.0)
    seconds = time.perf_counter() - begin
    shutil.rmtree(out)
    assert not any(outcome.cause for outcome in outcomes), outcomes
    stages = {
        stage: mean(outcome.facts.seconds[stage] for outcome in outcomes)
        for stage in ("read", "infer", "write")
    }
    return {
        "s": seconds,
        "stages_s": stages,
        "peak_mb": max(outcome.facts.peak_memory_mb for outcome in outcomes),
    }


def main() -> None:
    """Measure, print, write."""
    with tempfile.TemporaryDirectory() as name:
        series = make_images(Path(name) / "images")
        pools, starts = {}, []
        for way, limits in (("overlapped", Limits()), ("one by one", PLENTY)):
            pools[way], seconds = start(limits)
            starts.append(seconds)
            run(pools[way], series[:1], Path(name) / "warm")
        rounds = [
            {way: run(pool, series, Path(name) / "out") for way, pool in pools.items()}
            for _ in range(ROUNDS)
        ]
        for pool in pools.values():
            pool.close(kill=False)
    ratio = median(one["overlapped"]["s"] / one["one by one"]["s"] for one in rounds)
    extra = median(
        (one["one by one"]["s"]) / CASES - sum(one["one by one"]["stages_s"].values())
        for one in rounds
    )
    print("| way | s per case | read | infer | write | peak MB |\n|---|---|---|---|---|---|")
    for way in pools:
        runs = [one[way] for one in rounds]
        stages = [median(r["stages_s"][stage] for r in runs) for stage in runs[0]["stages_s"]]
        figures = [median(r["s"] for r in runs) / CASES, *stages]
        peak = max(r["peak_mb"] for r in runs)
        print(f"| {way} | {' | '.join(f'{n:.2f}' for n in figures)} | {peak:.0f} |")
    print(f"\noverlapped / one by one: {ratio:.2f}")
    print(
        f"start of a worker: {median(starts):.1f} s; besides its stages a case costs {extra:.3f} s"
    )
    now = datetime.now(UTC)
    record = {
        "command": "python benchmarks/bench_batch_overlap.py",
        "date": now.isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "bundle": BUNDLE,
        "cases": CASES,
        "voxels": [VOXELS] * 3,
        "spacing_mm": SPACING_MM,
        "load": os.getloadavg(),
        "rounds": rounds,
        "ratio": ratio,
        "start_s": starts,
        "besides_stages_s_per_case": extra,
    }
    target = Path(__file__).parent / "results" / f"{now:%Y-%m-%d}-batch-overlap.json"
    target.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
