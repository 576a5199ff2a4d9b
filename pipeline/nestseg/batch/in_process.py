"""No workers: each case in the runner's own process, without limits and without protection."""

from __future__ import annotations

from collections import deque

from nestseg.batch.case import run_case
from nestseg.batch.jobs import Job, Loaded, Outcome, Settings
from nestseg.batch.worker import describe_bundle, load


class InProcessPool:
    """For debugging, and where processes cannot be had; see :class:`nestseg.batch.pool.Pool`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bundle = load(settings)
        self._queue: deque[Job] = deque()

    def ready(self) -> Loaded:
        """What was loaded."""
        return describe_bundle(self._bundle)

    @property
    def free(self) -> int:
        """One, if there is no job."""
        return 0 if self._queue else 1

    def submit(self, job: Job) -> None:
        """Take a job on."""
        self._queue.append(job)

    def wait(self, timeout_s: float) -> list[Outcome]:
        """Run one job."""
        if not self._queue:
            return []
        return [run_case(self._queue.popleft(), self._bundle, self._settings)]

    def cancel(self, name: str) -> None:
        """Forget a job."""
        self._queue = deque(job for job in self._queue if job.name != name)

    def close(self, *, kill: bool) -> None:
        """Forget all jobs."""
        self._queue.clear()
