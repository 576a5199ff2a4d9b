"""One worker process, seen from its parent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import Pipe
from typing import Any

import psutil

from nestseg.batch.jobs import Job, Limits, Loaded, Settings
from nestseg.batch.messages import Stage
from nestseg.bundle import trace

_PATIENCE_S = 5.0  # for a killed process to go; one that waits for a dead disk never does


@dataclass
class Task:
    """A job in a pool.

    Attributes:
        job: which.
        alone: whether it must have a worker for itself, being under suspicion.
        stage: where it stands, once a worker has it.
    """

    job: Job
    alone: bool = False
    stage: Stage = Stage.READ
    _used_s: float = 0.0
    _since: float = 0.0

    def start(self) -> None:
        """Start the clock anew."""
        self.stage, self._used_s, self._since = Stage.READ, 0.0, time.monotonic()

    def enter(self, stage: Stage) -> None:
        """Go on to a stage; the clock stands still while the job waits for another."""
        self._used_s, self._since, self.stage = self.seconds, time.monotonic(), stage

    @property
    def seconds(self) -> float:
        """Wall time it was worked on."""
        running = self.stage is not Stage.WAIT
        return self._used_s + (time.monotonic() - self._since if running else 0.0)


class WorkerProcess:
    """A process that runs :mod:`nestseg.batch.worker`, in a process group of its own."""

    def __init__(self, settings: Settings, limits: Limits, environment: dict[str, str]) -> None:
        self.connection, theirs = Pipe()
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(  # noqa: S603  our own module
            # -P: a folder of images may hold a torch.py
            [sys.executable, "-P", "-m", f"{__package__}.worker", str(theirs.fileno()), _me()],
            pass_fds=[theirs.fileno()],
            env=os.environ | environment | {"PYTHONPATH": paths},
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            # What a decoder prints may name a patient; what matters comes over the socket.
            stdout=subprocess.DEVNULL,
            stderr=None if trace.wanted() else subprocess.DEVNULL,
        )
        theirs.close()
        self.environment = environment
        self.name = f"{socket.gethostname()}:{self._process.pid}"
        self.loaded: Loaded | None = None
        self.tasks: dict[str, Task] = {}
        self._memory = psutil.Process(self._process.pid)
        with suppress(OSError):  # it died at once; the pool will hear of it
            self.connection.send((settings, limits))

    def give(self, task: Task) -> None:
        """Hand over a job."""
        self.tasks[task.job.name] = task
        task.start()
        with suppress(OSError):  # it has died; the pool will hear of it
            self.connection.send(task.job)

    def messages(self) -> Iterator[Any]:
        """What it has said; ``EOFError`` or ``OSError`` when it has died."""
        while self.connection.poll():
            yield self.connection.recv()

    @property
    def idle(self) -> bool:
        """Whether it could begin a case at once."""
        return self.loaded is not None and not self.tasks

    @property
    def hungry(self) -> bool:
        """Whether it could read a case while it computes another."""
        return self.loaded is not None and all(
            task.stage in (Stage.INFER, Stage.WRITE) and not task.alone
            for task in self.tasks.values()
        )

    @property
    def resident_mb(self) -> float:
        """Memory that it and its cages take, in units of 10⁶ bytes."""
        total = 0.0
        with suppress(psutil.Error):
            for process in (self._memory, *self._memory.children(recursive=True)):
                with suppress(psutil.Error):  # it has just ended
                    total += float(process.memory_info().rss) / 1e6
        return total

    def kill(self) -> None:
        """End it and all that it started."""
        if self._process.returncode is None:  # else its number may be another's by now
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self.connection.close()
        self.exit_code()

    def dismiss(self) -> None:
        """Tell it that there are no more jobs; it goes when it has finished its own."""
        self.connection.close()
        self.exit_code()

    def exit_code(self) -> int | None:
        """Its exit code, negative for a signal; ``None`` if it will not go."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(_PATIENCE_S)
        return None


def environments(settings: Settings, workers: int) -> list[dict[str, str]]:
    """What differs between workers: which GPU they see; each takes the one that fewest have."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = settings.threads or max((cores or 1) // workers, 1)
    common = {"OMP_NUM_THREADS": str(threads)}
    if settings.options.runtime in ("auto", "openvino") and find_spec("openvino"):
        # After each small step torch's threads would wait in circles, and take the processor from
        # OpenVINO's: a quarter of the time of a 2D network.
        common["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")
    kind, _, numbers = (settings.device or "").partition(":")
    if kind == "cpu":
        return [common | {"CUDA_VISIBLE_DEVICES": ""}]
    if not numbers:
        return [common]
    return [common | {"CUDA_VISIBLE_DEVICES": number} for number in numbers.split(",")]


def manner(code: int | None) -> str:
    """How a process with this exit code ended."""
    if code is None:
        return "does not answer"
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with code {code}"


def _me() -> str:
    return str(os.getpid())
