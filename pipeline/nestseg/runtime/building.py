"""A graph that may be trusted: built and proved, or from the cache, where only proved ones lie."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

from nestseg import __version__
from nestseg.runtime import cache, machine
from nestseg.runtime.backends import backend
from nestseg.runtime.contract import Built, Task
from nestseg.runtime.identity import key
from nestseg.runtime.proof import prove


@dataclass(frozen=True)
class Way:
    """By which library a network is computed, and in which numbers."""

    runtime: str
    precision: str

    def __str__(self) -> str:
        return f"{self.runtime} {self.precision}"


def build(way: Way, task: Task, network: str) -> Built:
    """A graph that has proved itself on this machine.

    Args:
        way: the task's precision is that of the way.
        task: what to build.
        network: digest of the task's network.

    Raises:
        Exception: whatever the library raises, or an ``UnavailableError``.
    """
    one = backend(way.runtime)
    one.check(task.device, way.precision)
    lasting = task if one.FIXED_SHAPE else replace(task, shape=())
    name = key(what="graph", way=str(way), version=one.version(), **facts(lasting, network))
    kept = cache.read(name)
    if kept is not None:
        try:
            return one.build(task, kept)
        except Exception:  # noqa: BLE001  whatever a library says of what it wrote itself
            kept = None
    built = one.build(task)
    prove(built.run, task)
    cache.write(name, built.artefact)
    return built


def facts(task: Task, network: str) -> dict[str, Any]:
    """Everything besides the way that what is built, and how fast it is, depends on."""
    calibrated = task.int8 and [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(task.int8.glob("model.*"))
    ]
    return {
        "nestseg": __version__,
        "network": network,
        "shape": task.shape,
        "every_head": task.every_head,
        "threads": task.threads,
        "machine": machine.describe(task.device),
        "int8": calibrated,
    }
