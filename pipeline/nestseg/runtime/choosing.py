"""Which way is fastest here: measured once on a tile of noise, then remembered."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Final

import torch

from nestseg.runtime import cache, machine
from nestseg.runtime.backends import backend
from nestseg.runtime.building import Way, build, facts
from nestseg.runtime.contract import Built, Task, UnavailableError
from nestseg.runtime.identity import key
from nestseg.runtime.proof import noise

ROUNDS: Final = 3
_AUTO: Final = {"cpu": ("openvino", "torch")}
"""What is tried where nothing is asked for; on others torch alone: the rest builds for minutes."""


def ways(precision: str, runtime: str, device: torch.device, *, int8: bool) -> list[Way]:
    """Every way that is there of those that were asked for, that of plain torch last.

    Args:
        precision: as a person says it.
        runtime: likewise.
        device: where it shall compute.
        int8: whether there is a calibrated model.

    Raises:
        UnavailableError: a runtime that was asked for by name is not there.
    """
    bf16 = machine.has_bf16(device)
    found = {
        "auto": ["int8"] * int8 + ["bf16"] * bf16 + ["fp32"],
        "bf16": ["bf16"] if bf16 else ["fp32"],
    }
    precisions = found.get(precision, [precision])
    if precision == "int8":
        runtime = "openvino"
    runtimes = _AUTO.get(device.type, ("torch",)) if runtime == "auto" else (runtime,)
    there = []
    for one in (Way(r, p) for p in precisions for r in runtimes):
        try:
            backend(one.runtime).check(device, one.precision)
        except UnavailableError:
            if runtime != "auto" and precision != "auto":
                raise
            continue
        there.append(one)
    if runtime != "auto" and not there:
        backend(runtime).check(device, precisions[-1])
    return there


def remembered(candidates: list[Way], task: Task, network: str) -> Way | None:
    """Which way was fastest when these were measured here; ``None`` if they never were."""
    found = cache.read(_name(candidates, task, network))
    return None if found is None else Way(**json.loads(found)["fastest"])


def usual(candidates: list[Way], task: Task, network: str) -> Way | None:
    """Which way won when these were last measured here, for a tile of whatever shape."""
    return remembered(candidates, replace(task, shape=()), network)


def fastest(
    candidates: list[Way], task: Task, network: str
) -> tuple[Way | None, Built | None, dict[Way, Exception]]:
    """Build every candidate, measure them in turns, and remember which won.

    Returns:
        The fastest with its graph, nothing if none could be built; and why others could not.
    """
    graphs: dict[Way, Built] = {}
    failed: dict[Way, Exception] = {}
    for way in candidates:
        try:
            graphs[way] = build(way, replace(task, precision=way.precision), network)
        except Exception as error:  # noqa: BLE001  whatever a library raises, there are others
            failed[way] = error
    if not graphs:
        return None, None, failed
    seconds = dict.fromkeys(graphs, float("inf"))
    tile = noise(task, seed=0)
    for _ in range(ROUNDS if len(graphs) > 1 else 0):
        for way, graph in graphs.items():
            start = time.perf_counter()
            graph.run(tile)
            _wait(task.device)
            seconds[way] = min(seconds[way], time.perf_counter() - start)
    best = min(graphs, key=lambda way: seconds[way])
    record = {
        "fastest": {"runtime": best.runtime, "precision": best.precision},
        "milliseconds": {str(way): round(1000 * one, 3) for way, one in seconds.items()},
    }
    for place in (task, replace(task, shape=())):
        cache.write(_name(candidates, place, network), json.dumps(record).encode())
    return best, graphs[best], failed


def _name(candidates: list[Way], task: Task, network: str) -> str:
    versions = {str(way): backend(way.runtime).version() for way in candidates}
    return key(what="fastest", versions=versions, **facts(task, network))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
