"""What each level costs on this machine: fresh processes, taking turns, medians."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from nestseg_prep.errors import InputError


@dataclass(frozen=True)
class Cost:
    """What a level costs.

    Attributes:
        ms: median over the timed cases and the rounds.
        mb: median of the peaks; ``None`` where they cannot be measured.
        memory: whose memory it is.
    """

    ms: float
    mb: float | None
    memory: str


def pick(voxels: Mapping[str, int], most: int) -> list[str]:
    """Images to time: spread evenly over the sizes, with the smallest and the largest.

    Args:
        voxels: image path → size.
        most: how many at most.
    """
    by_size = sorted(voxels, key=lambda path: (voxels[path], path))
    places = np.linspace(len(by_size) - 1, 0, min(most, len(by_size))).round().astype(int)
    return [by_size[place] for place in reversed(places)]


def measure(
    bundles: Mapping[int, Path],
    images: Sequence[str],
    rounds: int,
    on_process: Callable[[], None] = lambda: None,
) -> dict[int, Cost]:
    """Measure each level. They take turns, so that what else the machine does hits all alike.

    Args:
        bundles: level → folder of the bundle pruned to it.
        images: to segment in each process.
        rounds: processes per level.
        on_process: called when one is finished.

    Raises:
        InputError: a level could not be run in a process of its own.
    """
    runs: dict[int, list[dict[str, Any]]] = {level: [] for level in bundles}
    for _ in range(rounds):
        for level, folder in bundles.items():
            runs[level].append(_run(level, folder, images))
            on_process()
    return {level: _cost(found) for level, found in runs.items()}


def machine(device: str) -> dict[str, str | int]:
    """Facts without which times mean nothing."""
    return {
        "system": platform.system(),
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "device": device,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "monai")},
    }


def _run(level: int, folder: Path, images: Sequence[str]) -> dict[str, Any]:
    # -P and our own path: the working directory may hold any module, and stays out.
    words = [sys.executable, "-P", "-m", "nestseg.pruning.worker", str(folder), *images]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(  # noqa: S603  our own module
        words, capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise InputError(f"L{level} could not be timed ({last[:160]}); free memory and try again")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _cost(runs: Sequence[Mapping[str, Any]]) -> Cost:
    peaks = [run["mb"] for run in runs if run["mb"] is not None]
    return Cost(
        ms=round(median(ms for run in runs for ms in run["ms"]), 2),
        mb=round(median(peaks), 1) if peaks else None,
        memory=runs[0]["memory"],
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (names or [platform.processor() or platform.machine()])[0]
