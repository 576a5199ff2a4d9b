"""``python -m nestseg.batch.worker FD PARENT``: loads a bundle once, then takes job after job.

A process of its own, never a fork: a child of a process with torch's threads would hang. It talks
over the socket ``FD`` and dies with its parent.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nestseg.batch.jobs import Job, Limits, Loaded, Settings
from nestseg.batch.messages import Entered, Refused, Stage
from nestseg.bundle import lean_start, trace, trust
from nestseg.bundle.familiar import is_familiar
from nestseg_prep import process_memory
from nestseg_prep.errors import InputError, describe

if TYPE_CHECKING:
    from nestseg.batch.case import Work
    from nestseg.bundle.bundle import Bundle

_FILES = 4096  # open at once
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_WRITERS_NICENESS = 10
_FIRST_TO_GO = "800"  # of 1000: the kernel, out of memory, spares the one who keeps the books


def main(socket: str, parent: str) -> None:
    """Serve the jobs that come over a socket until it is closed."""
    _confine(int(parent))
    connection: Connection[Any, Any] = Connection(int(socket))
    settings, limits = connection.recv()
    try:
        start_lean(settings)
        bundle = load(settings, limits)
        limit_memory(limits)
    except InputError as error:
        trace.show(error)
        connection.send(Refused(describe(error)))
        return
    except Exception as error:  # noqa: BLE001  the parent tells the person
        connection.send(Refused(not_loaded(settings, error)))
        return
    connection.send(describe_bundle(bundle))
    worker = _Worker(connection, bundle, settings)
    # With a limit of memory one case after the other: two at once would share what each may have,
    # and nobody could say which of them was too large.
    worker.serve_one_by_one() if limits.memory_mb else worker.serve_overlapped()


def not_loaded(settings: Settings, error: Exception) -> str:
    """Why a bundle cannot be loaded, where nobody expected it. No image is open yet."""
    trace.show(error)
    told = trace.told(error, of_arrays=True)
    return f"{settings.bundle.name}: cannot be loaded: {type(error).__name__}{told}"


def start_lean(settings: Settings) -> None:
    """Import MONAI without what nestseg's own bundles never use; in a process of a worker's own."""
    members = (settings.bundle, *settings.options.ensemble)
    if not any(map(trust.needs_cage, members)) and all(map(is_familiar, members)):
        lean_start.import_monai()


def load(settings: Settings, limits: Limits | None = None) -> Bundle:
    """Load the bundle of a run, in cages if it needs them, with as many threads as it may use.

    Raises:
        InputError: it cannot be loaded, or not on the device.
    """
    # Imported here: the limits of the process come first, torch after them.
    from nestseg.bundle.bundle import load_bundle  # noqa: PLC0415

    memory_mb = limits.memory_mb if limits else None
    bundle = load_bundle(
        settings.bundle,
        settings.options,
        threads=settings.threads,
        memory_mb=memory_mb,
        ahead=True,
    )
    there = bundle.device.split(":", maxsplit=1)[0]
    if settings.device and settings.device.split(":", maxsplit=1)[0] != there:
        raise InputError(f"--device {settings.device}: the bundle computes on {there}")
    return bundle


def describe_bundle(bundle: Bundle) -> Loaded:
    """What a runner wants to know of a bundle."""
    info = bundle.info
    return Loaded(info.name, info.version, info.weights_sha256, info.labels, bundle.device)


class _Worker:
    """A loaded bundle at one end of a socket."""

    def __init__(
        self,
        connection: Connection[Any, Any],
        bundle: Bundle,
        settings: Settings,
    ) -> None:
        from nestseg.batch import case  # noqa: PLC0415

        self._case = case
        self._connection = connection
        self._bundle = bundle
        self._settings = settings
        self._sending = threading.Lock()

    def serve_one_by_one(self) -> None:
        while (work := self._next()) is not None:
            self._write(self._infer(work))

    def serve_overlapped(self) -> None:
        """Segment a case while the next is read and the one before is written."""
        with (
            ThreadPoolExecutor(1) as reader,
            ThreadPoolExecutor(1, initializer=_stand_back) as writer,
        ):
            writing = writer.submit(lambda: None)
            reading = reader.submit(self._next)
            while (work := reading.result()) is not None:
                reading = reader.submit(self._next)
                work = self._infer(work)
                writing.result()  # at most one waits to be written
                writing = writer.submit(self._write, work)

    def _next(self) -> Work | None:
        """Receive a job and read its image; ``None`` when there are no more."""
        try:
            job: Job = self._connection.recv()
        except EOFError:
            return None
        process_memory.forget_peak()
        work = self._case.read(job)
        self._send(Entered(job.name, Stage.WAIT))
        return work

    def _infer(self, work: Work) -> Work:
        self._send(Entered(work.job.name, Stage.INFER))
        return self._case.infer(work, self._bundle, self._settings)

    def _write(self, work: Work) -> None:
        self._send(Entered(work.job.name, Stage.WRITE))
        self._send(self._case.write(work, self._bundle, self._settings))

    def _send(self, message: object) -> None:
        with self._sending:
            self._connection.send(message)


def _stand_back() -> None:
    """Let this thread take what the others leave of the processor.

    A network's threads wait for the slowest of them: one that shares its core halves them all.
    """
    if sys.platform == "linux":  # where priorities are those of threads
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _WRITERS_NICENESS)


def leave_nothing() -> None:
    """Make files for this user alone, and no dump of a patient's image when the process dies."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _confine(parent: int) -> None:
    """Set what a process decides about itself before it loads anything; become no orphan."""
    leave_nothing()
    process_memory.give_back_freed()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we asked
            sys.exit()


def limit_memory(limits: Limits) -> None:
    """Let allocations beyond the limit fail, so that only the case fails which makes them.

    ``RLIMIT_DATA`` and not ``RLIMIT_AS``: the address space of torch says nothing of the memory it
    takes, and CUDA reserves more than any machine has.

    Raises:
        InputError: the bundle alone takes more.
    """
    held, data = process_memory.resident(), process_memory.data()
    if limits.memory_mb is None or held is None or data is None:
        return
    room = limits.memory_mb * 10**6 - held
    if room <= 0:
        raise InputError(
            f"--max-memory: the model alone takes {held / 1e6:.0f} MB, the limit is "
            f"{limits.memory_mb} MB; allow more"
        )
    resource.setrlimit(resource.RLIMIT_DATA, (data + room, data + room))


if __name__ == "__main__":
    main(*sys.argv[1:])
