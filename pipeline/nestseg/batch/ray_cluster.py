"""The cluster behind ``--engine ray``: how to reach it, and what an actor takes of it."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nestseg.batch.jobs import Settings
from nestseg_prep.dicom.references import SeriesRef
from nestseg_prep.errors import InputError

_STORE_BYTES = 100_000_000  # jobs and outcomes are small


def connect(address: str | None) -> Any:
    """The module ``ray``, connected to a cluster.

    Args:
        address: as ``ray.init`` takes it; ``None`` starts a cluster on this machine, which listens
            on loopback only.

    Raises:
        InputError: Ray is not installed, or nothing answers at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves the house
    if address is None:  # by default Ray's workers give way to everything else on the machine
        os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        ray = importlib.import_module("ray")
    except ImportError:
        raise InputError("--engine ray needs Ray; run `pip install 'nestseg[ray]'`") from None
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    alone: dict[str, Any] = {
        "include_dashboard": False,
        "object_store_memory": _STORE_BYTES,
        "_node_ip_address": "127.0.0.1",
    }
    try:
        ray.init(address=address or "local", **quiet, **({} if address else alone))
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(f"--ray-address: no cluster answers ({type(error).__name__})") from error
    return ray


def needs_of_actor(settings: Settings, there: Mapping[str, float]) -> dict[str, float]:
    """What an actor asks of its node: a GPU where there are any, unless the device is the CPU.

    Args:
        settings: of the run.
        there: what the cluster has.
    """
    kind = (settings.device or "").partition(":")[0]
    if kind == "cuda" or (not kind and there.get("GPU")):
        return {"num_gpus": 1}
    return {"num_cpus": settings.threads or 1}


def absolute(ref: SeriesRef) -> SeriesRef:
    """The series for a process that works in another folder."""
    slices = tuple(one._replace(path=one.path.absolute()) for one in ref.slices)
    return replace(ref, files=tuple(path.absolute() for path in ref.files), slices=slices)
