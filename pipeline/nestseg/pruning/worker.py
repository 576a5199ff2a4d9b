"""``python -m nestseg.pruning.worker BUNDLE IMAGE…``: time and memory of one level.

A process of its own, because the peak of a process never falls again.
"""

from __future__ import annotations

import json
import sys
import time

import torch

from nestseg.bundle.bundle import load_bundle
from nestseg.bundle.options import SegmentOptions
from nestseg.pruning.validation import read_image
from nestseg_prep import process_memory
from nestseg_prep.errors import InputError

RESIDENT = "peak resident memory of the process above its idle state"
ON_GPU = "peak memory reserved on the GPU"


def main(bundle_folder: str, *images: str) -> None:
    """Segment each image once, after a run to warm up, and print times and peak as JSON."""
    idle = process_memory.resident()
    try:  # one library for all levels: to compile others would fall into the timed runs
        bundle = load_bundle(bundle_folder, SegmentOptions(runtime="torch"), caged=False)
    except InputError:  # it runs as its config says, and takes no options
        bundle = load_bundle(bundle_folder, caged=False)
    volumes = [read_image(path) for path in images]
    bundle.predict(volumes[0])
    ms = []
    for volume in volumes:
        start = time.perf_counter()
        bundle.predict(volume)
        ms.append(1000 * (time.perf_counter() - start))
    memory, mb = _memory(bundle.device, idle)
    print(json.dumps({"ms": ms, "mb": mb, "memory": memory}))


def _memory(device: str, idle: int | None) -> tuple[str, float | None]:
    if device.startswith("cuda"):
        return ON_GPU, torch.cuda.max_memory_reserved(device) / 1e6
    peak = process_memory.peak()
    return RESIDENT, None if idle is None or peak is None else (peak - idle) / 1e6


if __name__ == "__main__":
    main(*sys.argv[1:])
