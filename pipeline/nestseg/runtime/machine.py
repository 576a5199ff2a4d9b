"""What this machine can compute in, and by what it is told from others."""

from __future__ import annotations

import hashlib
import platform
from functools import lru_cache
from pathlib import Path

import torch


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is computed by units of its own, and not in float32 and rounded."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(_cpu_flags() & {"avx512_bf16", "amx_bf16"})


def describe(device: torch.device) -> str:
    """By what a measurement, or a graph compiled here, is tied to this machine."""
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return f"{torch.cuda.get_device_name(device)} {major}.{minor} cuda {torch.version.cuda}"
    flags = hashlib.sha256(" ".join(sorted(_cpu_flags())).encode()).hexdigest()[:16]
    return f"{platform.machine()} {_cpu_model()} {flags} {torch.get_num_threads()} threads"


@lru_cache
def _cpu_info() -> dict[str, str]:
    """The first processor of ``/proc/cpuinfo``; empty where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    lines = text.split("\n\n", 1)[0].splitlines()
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _cpu_flags() -> frozenset[str]:
    info = _cpu_info()
    return frozenset((info.get("flags") or info.get("Features") or "").split())


def _cpu_model() -> str:
    return _cpu_info().get("model name") or platform.processor()
