"""``python -m nestseg.pruning.worker BUNDLE IMAGE…``: time and memory of one level.

A process of its own, because the peak of a process never falls again.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch

from nestseg.bundle import loaded
from nestseg.bundle.options import SegmentOptions
from nestseg.pruning.validation import read_image
from nestseg_prep import process_memory

RESIDENT = "peak resident memory of the process above its idle state"
ON_GPU = "peak memory reserved on the GPU"


def main(bundle_folder: str, *images: str) -> None:
    """Segment each image once, after a run to warm up, and print times and peak as JSON."""
    idle = process_memory.resident()
    bundle = loaded.load(Path(bundle_folder))
    # One library for all levels: to measure and compile others would fall into the timed runs.
    options = SegmentOptions(runtime="torch" if bundle.takes_options else "auto")
    volumes = [read_image(path) for path in images]
    bundle.examine(volumes[0], options)
    ms = []
    for volume in volumes:
        start = time.perf_counter()
        bundle.examine(volume, options)
        ms.append(1000 * (time.perf_counter() - start))
    memory, mb = _memory(bundle.device, idle)
    print(json.dumps({"ms": ms, "mb": mb, "memory": memory}))


def _memory(device: torch.device, idle: int | None) -> tuple[str, float | None]:
    if device.type == "cuda":
        return ON_GPU, torch.cuda.max_memory_reserved(device) / 1e6
    peak = process_memory.peak()
    return RESIDENT, None if idle is None or peak is None else (peak - idle) / 1e6


if __name__ == "__main__":
    main(*sys.argv[1:])
