"""One command in a process of its own: wall time, CPU time and peak memory of its whole tree."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

INTERVAL_S = 0.25
ROOT = Path(__file__).parents[2]
UNAVAILABLE = 69
"""Exit code of a child that cannot do what it is asked for here; its last line says why."""


@dataclass(frozen=True)
class Run:
    """What became of a command.

    Attributes:
        code: exit code.
        wall_s: until its end.
        cpu_s: user and system, of it and of all its descendants that it waited for.
        peak_rss: bytes: the largest sum of the resident memory of the processes of its tree.
        said: the JSON of its last line, if there is one.
        error: the last line of what it wrote to stderr.
    """

    code: int
    wall_s: float
    cpu_s: float
    peak_rss: int
    said: dict[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def figures(self) -> dict[str, float]:
        """What is compared; what the command measured itself goes first."""
        inner = {key: float(value) for key, value in self.said.items() if key.endswith("_s")}
        return inner | {"wall_s": self.wall_s, "cpu_s": self.cpu_s, "peak_gb": self.peak_rss / 1e9}


def _of_the_child(most: int) -> int:
    """The kernel's peak of a child, in its own unit; a child begins with that of its parent."""
    return most if most > resource.getrusage(resource.RUSAGE_SELF).ru_maxrss else 0


def run(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Run:
    """Run a command from the root of the repository and measure it.

    Args:
        command: program and arguments.
        environment: added to this process's own.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        start = time.perf_counter()
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=ROOT,
            env=os.environ | paths() | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        try:
            code, used, peak = _watched(process)
        except BaseException:
            _kill(process)
            raise
        wall = time.perf_counter() - start
        return Run(
            code,
            wall,
            used.ru_utime + used.ru_stime,
            max(peak, _of_the_child(used.ru_maxrss) * 1024),
            _last_json(_lines(out)),
            (_lines(err) or [""])[-1].strip(),
        )


def python(module: str, *arguments: str | Path, interpreter: str | Path = sys.executable) -> Run:
    """Run a module of this folder with a Python, and measure it."""
    return run([interpreter, "-W", "ignore", "-m", f"benchmarks.peers.{module}", *arguments])


def paths() -> dict[str, str]:
    """What finds our packages, in whichever environment."""
    folders = [ROOT, ROOT / "pipeline", ROOT / "data_prep"]
    return {"PYTHONPATH": os.pathsep.join(map(str, folders))}


def _watched(process: subprocess.Popen[bytes]) -> tuple[int, resource.struct_rusage, int]:
    """Wait for the end of a process, and look at its tree now and then meanwhile."""
    peak, ended = 0, threading.Event()

    def look() -> None:
        nonlocal peak
        while not ended.wait(INTERVAL_S):
            peak = max(peak, _resident(process.pid))

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        _, status, used = os.wait4(process.pid, 0)
    finally:
        ended.set()
        looking.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, used, peak


def _resident(pid: int) -> int:
    """Bytes of a process and its descendants; what ends meanwhile counts nothing."""
    try:
        tree = [psutil.Process(pid)]
        tree += tree[0].children(recursive=True)
    except psutil.NoSuchProcess:
        return 0
    total = 0
    for one in tree:
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process that was started here, and what it started."""
    try:
        tree = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        tree = []
    process.kill()
    for one in tree:
        one.kill()
    process.wait()


def _lines(file: IO[str]) -> list[str]:
    file.seek(0)
    return [line for line in file.read().splitlines() if line.strip()]


def _last_json(lines: Sequence[str]) -> dict[str, Any]:
    """The last line, if it is a JSON object."""
    try:
        found = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return dict(found) if isinstance(found, dict) else {}
