"""The environment that nnU-Net lives in, made once from PyPI, and the versions of everything."""

from __future__ import annotations

import os
import platform
import subprocess
import venv
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from benchmarks.peers.measure import ROOT, run

HOME = ROOT / "build" / "peers"
PYTHON = HOME / "bin" / "python"
TORCH = "torch==2.13.0"
WANTED = (TORCH, "nnunetv2==2.8.1", "monai==1.6.1")  # monai: what our network is made of
_OURS = ("torch", "monai", "nibabel", "numpy", "SimpleITK", "openvino", "onnxruntime", "nncf")
_THEIRS = ("nnunetv2", "torch", "numpy", "scikit-image", "nibabel", "batchgenerators", "acvl-utils")
_ASK = (
    "import sys; from importlib import metadata; "
    "print('\\n'.join(name + ' ' + metadata.version(name) for name in sys.argv[1:]))"
)


def make() -> Path:
    """The Python of that environment, which is made if it is not there.

    Raises:
        SystemExit: it cannot be made; the line says why.
    """
    if not is_there():
        print(f"Making {HOME.relative_to(ROOT)} with {', '.join(WANTED)} (once; some minutes)")
        venv.create(HOME, clear=True, with_pip=True)
        # torch first: where a local index has a build for CPUs, nnU-Net is content with it.
        for packages in ([TORCH], list(WANTED)):
            done = run([PYTHON, "-m", "pip", "install", "-q", *packages])
            if done.code:
                raise SystemExit(f"no environment for nnU-Net: {done.error}")
        versions.cache_clear()
    return PYTHON


def is_there() -> bool:
    """Whether it is complete."""
    return PYTHON.is_file() and all(
        versions().get(f"nnU-Net's {name}") == wanted
        for name, wanted in (one.split("==") for one in WANTED if "monai" not in one)
    )


@lru_cache
def versions() -> dict[str, str]:
    """Of what computes, in both environments."""
    found = {"python": platform.python_version()}
    for name in _OURS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    if PYTHON.is_file():
        done = subprocess.run(
            [PYTHON, "-c", _ASK, *_THEIRS], check=False, capture_output=True, text=True
        )
        for line in done.stdout.splitlines():
            name, version = line.split()
            found[f"nnU-Net's {name}"] = version.partition("+")[0]
    return found


def load() -> float:
    """How many processes wanted to compute in the last minute."""
    return os.getloadavg()[0]


def machine() -> dict[str, Any]:
    """Without what a time means nothing."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    return {
        "system": platform.system(),
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
    }
