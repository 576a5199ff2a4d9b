"""A pool of Ray actors: the same workers on many machines that share a file system.

Only jobs go out and only outcomes come back: images and masks never pass through Ray. Ray retries
and restarts nothing, for the runner counts attempts; a lost actor is replaced by a new one,
wherever there is room. When the driver dies its actors die too, and what they had not finished is
run again by the next driver.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

from nestseg.batch.jobs import Job, Limits, Loaded, Outcome, Settings
from nestseg.batch.messages import Refused
from nestseg.batch.pool import TICK_S, collect
from nestseg.batch.ray_actor import CaseActor
from nestseg.batch.ray_cluster import absolute, connect, needs_of_actor
from nestseg.batch.states import Cause
from nestseg_prep.errors import InputError

_GROW_S = 10.0  # how often nodes are counted
_STARTS = 3  # that may fail one after the other


@dataclass
class _Slot:
    """An actor and what it is asked to do."""

    actor: Any
    answer: Any  # the reference to what it will say
    job: Job | None = None  # none: it loads the bundle
    since: float = 0.0
    idle: bool = False


class RayPool:
    """One actor for each GPU or CPU slot of a cluster; see :class:`nestseg.batch.pool.Pool`.

    Args:
        settings: what all cases share; the folder of the bundle must be there on every node.
        limits: what one may take.
        workers: the most actors; 0 for as many as the cluster holds, those of later nodes too.
        address: of the cluster, as ``ray.init`` takes it; ``None`` starts one on this machine,
            which listens on loopback only.

    Raises:
        InputError: Ray is not installed, or nothing answers at the address.
    """

    def __init__(
        self, settings: Settings, limits: Limits, workers: int = 0, address: str | None = None
    ) -> None:
        self._ray = connect(address)
        self._settings = replace(settings, bundle=settings.bundle.absolute())
        self._limits = limits
        self._workers = workers
        self._slots: list[_Slot] = []
        self._queue: deque[Job] = deque()
        self._outcomes: list[Outcome] = []
        self._loaded: Loaded | None = None
        self._failed_starts = 0
        self._need = needs_of_actor(settings, self._ray.cluster_resources())
        self._counted = 0.0
        self._grow()

    def ready(self) -> Loaded:
        """Wait until the first actor has loaded the bundle."""
        while self._loaded is None:
            self._step(TICK_S)
        return self._loaded

    @property
    def free(self) -> int:
        """How many more jobs keep every actor busy."""
        held = len(self._queue) + sum(slot.job is not None for slot in self._slots)
        return max(len(self._slots) - held, 0)

    def submit(self, job: Job) -> None:
        """Take a job on."""
        staging = job.staging.absolute()
        self._queue.append(replace(job, staging=staging, ref=absolute(job.ref)))
        self._dispatch()

    def wait(self, timeout_s: float) -> list[Outcome]:
        """What has finished, as soon as anything has."""
        return collect(self._step, self._outcomes, timeout_s)

    def cancel(self, name: str) -> None:
        """Forget a job, and kill its actor if it has started."""
        self._queue = deque(job for job in self._queue if job.name != name)
        self._outcomes[:] = [outcome for outcome in self._outcomes if outcome.name != name]
        for slot in self._slots:
            if slot.job is not None and slot.job.name == name:
                self._replace(slot)

    def close(self, *, kill: bool) -> None:
        """End all actors and leave the cluster."""
        for slot in self._slots:
            self._ray.kill(slot.actor)
        self._slots.clear()
        self._queue.clear()
        self._ray.shutdown()

    def _step(self, timeout_s: float) -> None:
        """Hear what actors answer, enforce the time limit, hand out jobs."""
        waited = {slot.answer: slot for slot in self._slots if not slot.idle}
        if waited:
            heard, _ = self._ray.wait(list(waited), num_returns=1, timeout=timeout_s)
            for answer in heard:
                self._hear(waited[answer])
        else:
            time.sleep(timeout_s)
        most_s = self._limits.timeout_s
        for slot in list(self._slots):
            if slot.job and most_s is not None and time.monotonic() - slot.since > most_s:
                reason = f"took longer than {most_s:g} s; allow more with --timeout"
                self._blame(slot, Cause.TIMEOUT, reason)
        self._grow()
        self._dispatch()

    def _hear(self, slot: _Slot) -> None:
        try:
            message = self._ray.get(slot.answer)
        except self._ray.exceptions.OutOfMemoryError:
            self._lost(slot, Cause.MEMORY, "its machine ran out of memory")
            return
        except self._ray.exceptions.RayError:
            self._lost(slot, Cause.KILLED, "its worker or the machine of it was lost")
            return
        slot.idle, slot.job = True, None
        match message:
            case Loaded():
                if self._loaded is not None and message != self._loaded:
                    raise InputError(f"{message.name}: not the same bundle on every machine")
                self._loaded = message
                self._failed_starts = 0
            case Refused(reason):
                raise InputError(reason)
            case Outcome():
                self._outcomes.append(message)
                if message.cause is Cause.MEMORY:
                    self._replace(slot)  # what its heap holds would be missing for the next case

    def _lost(self, slot: _Slot, cause: Cause, reason: str) -> None:
        if slot.job is not None:
            self._blame(slot, cause, reason)
            return
        self._failed_starts += 1
        if self._failed_starts >= _STARTS * len(self._slots):
            raise InputError(f"{self._settings.bundle.name}: actors die while they load it")
        self._replace(slot)

    def _blame(self, slot: _Slot, cause: Cause, reason: str) -> None:
        assert slot.job is not None  # noqa: S101
        self._outcomes.append(Outcome(slot.job.name, slot.job.attempt, cause, reason))
        self._replace(slot)

    def _replace(self, slot: _Slot) -> None:
        self._slots.remove(slot)
        self._ray.kill(slot.actor)
        self._start()

    def _start(self) -> None:
        actor = (
            self._ray.remote(CaseActor)
            .options(**self._need, max_restarts=0, max_task_retries=0)
            .remote()
        )
        self._slots.append(_Slot(actor, actor.load.remote(self._settings, self._limits)))

    def _grow(self) -> None:
        """Start actors on what the cluster has gained."""
        if self._counted and time.monotonic() - self._counted < _GROW_S:
            return
        self._counted = time.monotonic()
        there = self._ray.cluster_resources()
        kind = "GPU" if self._need.get("num_gpus") else "CPU"
        room = int(there.get(kind, 0) // max(self._need.values()))
        most = min(room, self._workers) if self._workers else room
        while len(self._slots) < max(most, 1):
            self._start()

    def _dispatch(self) -> None:
        for slot in self._slots:
            if self._queue and slot.idle:
                slot.job, slot.since, slot.idle = self._queue.popleft(), time.monotonic(), False
                slot.answer = slot.actor.run.remote(slot.job)
