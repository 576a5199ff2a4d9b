"""A pool of processes on this machine: what one case does to its worker happens to no other."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Iterable
from multiprocessing.connection import wait

from nestseg.batch.jobs import Job, Limits, Loaded, Outcome, Settings
from nestseg.batch.messages import Entered, Refused, Stage
from nestseg.batch.pool import TICK_S, collect
from nestseg.batch.processes import Task, WorkerProcess, environments, manner
from nestseg.batch.states import Cause
from nestseg_prep.errors import InputError
from nestseg_prep.process_memory import out_of_memory_kills

_STARTS = 3  # that may fail one after the other


class LocalPool:
    """Worker processes, each with the bundle in memory; see :class:`nestseg.batch.pool.Pool`.

    The first worker starts at once, the others when there are jobs for them. Without a limit of
    memory a worker reads the next case while it computes one and writes the one before. If it dies
    with several cases in work, nobody knows which of them it was: each is run again alone in a
    worker, and only what kills that one is blamed.

    Args:
        settings: what all cases share.
        limits: what one may take.
        workers: how many processes.
    """

    def __init__(self, settings: Settings, limits: Limits, workers: int) -> None:
        self._settings = settings
        self._limits = limits
        self._most = workers
        self._jobs_each = 1 if limits.memory_mb else 3  # read, computed and written at a time
        self._environments = environments(settings, workers)
        self._workers: list[WorkerProcess] = []
        self._queue: deque[Task] = deque()
        self._outcomes: list[Outcome] = []
        self._loaded: Loaded | None = None
        self._failed_starts = 0
        self._memory_kills = out_of_memory_kills()
        self._start()

    def ready(self) -> Loaded:
        """Wait until the first worker has loaded the bundle."""
        while self._loaded is None:
            self._step(TICK_S)
        return self._loaded

    @property
    def free(self) -> int:
        """How many more jobs keep every worker busy."""
        held = len(self._queue) + sum(len(worker.tasks) for worker in self._workers)
        return max(self._most * self._jobs_each - held, 0)

    def submit(self, job: Job) -> None:
        """Take a job on."""
        self._queue.append(Task(job))
        self._dispatch()

    def wait(self, timeout_s: float) -> list[Outcome]:
        """What has finished, as soon as anything has."""
        return collect(self._step, self._outcomes, timeout_s)

    def cancel(self, name: str) -> None:
        """Forget a job, and kill its worker if it has started."""
        self._queue = deque(task for task in self._queue if task.job.name != name)
        for worker in self._workers:
            if name in worker.tasks:
                self._end(worker, without=name)
                break
        self._outcomes[:] = [outcome for outcome in self._outcomes if outcome.name != name]

    def close(self, *, kill: bool) -> None:
        """End all workers."""
        for worker in self._workers:
            if not kill:
                worker.dismiss()
            worker.kill()
        self._workers.clear()
        self._queue.clear()

    def _step(self, timeout_s: float) -> None:
        """Hear what workers say, enforce the limits, hand out jobs."""
        heard = wait([worker.connection for worker in self._workers], timeout_s)
        for worker in [one for one in self._workers if one.connection in heard]:
            try:
                for message in worker.messages():
                    self._hear(worker, message)
            except (EOFError, OSError):
                if worker in self._workers:
                    self._bury(worker)
        for worker in list(self._workers):
            self._enforce(worker)
        self._dispatch()

    def _hear(self, worker: WorkerProcess, message: Loaded | Refused | Entered | Outcome) -> None:
        match message:
            case Loaded():
                if self._loaded is not None and message != self._loaded:
                    raise InputError(f"{message.name}: the bundle was changed during the run")
                self._loaded = worker.loaded = message
                self._failed_starts = 0
            case Refused(reason):
                raise InputError(reason)
            case Entered(name, stage):
                worker.tasks[name].enter(stage)
            case Outcome():
                del worker.tasks[message.name]
                self._outcomes.append(message)
                if message.cause is Cause.MEMORY:
                    # What its heap holds in pieces would be missing for the next case.
                    self._end(worker)

    def _enforce(self, worker: WorkerProcess) -> None:
        """Kill a worker of which a case takes too long, or too much memory."""
        most_s, most_mb = self._limits.timeout_s, self._limits.memory_mb
        if most_s is not None:
            late = next((t for t in worker.tasks.values() if t.seconds > most_s), None)
            if late is not None:
                reason = f"took longer than {most_s:g} s; allow more with --timeout"
                self._blame(worker, late, Cause.TIMEOUT, reason)
                return
        if most_mb is not None and worker.tasks and worker.resident_mb > most_mb:
            (large,) = worker.tasks.values()
            reason = f"needs more than {most_mb} MB; allow more with --max-memory"
            self._blame(worker, large, Cause.MEMORY, reason)

    def _bury(self, worker: WorkerProcess) -> None:
        """A worker has died on its own."""
        code = worker.exit_code()
        if worker.loaded is None:
            self._failed_starts += 1
            self._end(worker)
            if self._failed_starts >= _STARTS:
                name = self._settings.bundle.name
                raise InputError(f"{name}: workers die while they load it: {manner(code)}")
            if not self._workers:
                self._start()
            return
        tasks = list(worker.tasks.values())
        suspects = [task for task in tasks if task.stage is not Stage.WAIT] or tasks
        if len(suspects) != 1:
            for task in suspects:
                task.alone = True
            self._end(worker)
            return
        kills, self._memory_kills = self._memory_kills, out_of_memory_kills()
        if code == -signal.SIGKILL and self._memory_kills > kills:
            reason = "the machine ran out of memory; give fewer --workers or a --max-memory"
            self._blame(worker, suspects[0], Cause.MEMORY, reason)
        else:
            self._blame(worker, suspects[0], Cause.KILLED, f"its worker {manner(code)}")

    def _blame(self, worker: WorkerProcess, task: Task, cause: Cause, reason: str) -> None:
        job = task.job
        self._end(worker, without=job.name)
        self._outcomes.append(Outcome(job.name, job.attempt, cause, reason, worker=worker.name))

    def _end(self, worker: WorkerProcess, without: str = "") -> None:
        """Kill a worker; its jobs, but for one, go back to the head of the queue."""
        self._workers.remove(worker)
        worker.kill()
        tasks: Iterable[Task] = reversed(worker.tasks.values())
        self._queue.extendleft(task for task in tasks if task.job.name != without)

    def _dispatch(self) -> None:
        """Give jobs to idle workers, start more, then give them to those that can read ahead."""
        while self._queue and self._loaded is not None:
            task = self._queue[0]
            worker = next((one for one in self._workers if one.idle), None)
            if worker is None and len(self._workers) < self._most:
                self._start()
            if worker is None and self._jobs_each > 1 and not task.alone:
                worker = next((one for one in self._workers if one.hungry), None)
            if worker is None:
                return
            worker.give(self._queue.popleft())

    def _start(self) -> None:
        taken = [worker.environment for worker in self._workers]
        environment = min(self._environments, key=taken.count)
        self._workers.append(WorkerProcess(self._settings, self._limits, environment))
