"""What a runner asks of whatever runs its cases: processes here, Ray, or nothing but itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

from nestseg.batch.jobs import Job, Loaded, Outcome

TICK_S: Final = 0.25
"""How often limits are looked at."""


class Pool(Protocol):
    """Runs jobs, each of which comes back as one outcome, whatever becomes of its worker.

    Nothing is retried for the runner's account: a job that made its worker die comes back as
    failed. Jobs that merely shared the worker are run again unseen.

    A thread that makes a pool must live as long as the pool does: workers die with it.
    """

    def ready(self) -> Loaded:
        """Wait until the bundle is loaded.

        Raises:
            InputError: the bundle cannot be loaded, or not under these limits.
        """

    @property
    def free(self) -> int:
        """How many more jobs keep every worker busy."""

    def submit(self, job: Job) -> None:
        """Take a job on; its name must not be that of an unfinished one."""

    def wait(self, timeout_s: float) -> list[Outcome]:
        """What has finished, as soon as anything has, and at the latest after ``timeout_s``.

        Limits are enforced in here: call it at least every second or so.

        Raises:
            InputError: workers can no longer load the bundle.
        """

    def cancel(self, name: str) -> None:
        """Forget a job, and kill its worker if it has started; it has no outcome."""

    def close(self, *, kill: bool) -> None:
        """End all workers, in the middle of their cases if ``kill``; unfinished jobs are lost."""


def collect(
    step: Callable[[float], None], outcomes: list[Outcome], timeout_s: float
) -> list[Outcome]:
    """Empty a list of outcomes, after as many steps as it takes until there is one.

    Args:
        step: hears what workers say, for at most so many seconds, and enforces the limits.
        outcomes: what it fills.
        timeout_s: when to come back all the same.
    """
    end = time.monotonic() + timeout_s
    while True:
        step(max(min(TICK_S, end - time.monotonic()), 0.0))
        if outcomes or time.monotonic() >= end:
            found = outcomes.copy()
            outcomes.clear()
            return found
