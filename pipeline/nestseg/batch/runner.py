"""The loop of a batch: what is found is run, what has run gets its names, and nothing is lost."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from nestseg.batch.cases import Case
from nestseg.batch.discovery import Discovery
from nestseg.batch.events import Event, Kind, Listener
from nestseg.batch.intake import Intake
from nestseg.batch.jobs import Job, Loaded
from nestseg.batch.journal import Journal
from nestseg.batch.pool import Pool
from nestseg.batch.settlement import Settlement
from nestseg.batch.stops import LeaseLostError

_TICK_S = 0.2
_MOST_WAITING = 500  # cases in memory; what is found beyond them waits in the walk


class Wishes(NamedTuple):
    """What a runner looks at between two steps; set by signals and by the lease.

    Attributes:
        stop: whether to begin nothing more.
        lost: whether another runner has taken over.
    """

    stop: Callable[[], bool]
    lost: Callable[[], bool]


@dataclass
class Loop:
    """One run, from the first finding to the last case.

    Attributes:
        journal: the truth.
        discovery: where cases come from.
        intake: what becomes of what was found.
        settlement: what becomes of what has run.
        make_pool: called when the first case is to be run: a run without any loads no model.
        on_loaded: called with what the pool has loaded.
        wishes: of the outside.
        tell: is told of everything.
        patience_s: how long running cases may go on after a wish to stop.
    """

    journal: Journal
    discovery: Discovery
    intake: Intake
    settlement: Settlement
    make_pool: Callable[[], Pool]
    on_loaded: Callable[[Loaded], None]
    wishes: Wishes
    tell: Listener
    patience_s: float
    _pool: Pool | None = None
    _waiting: deque[Case] = field(default_factory=deque)
    _running: dict[str, tuple[Case, Job]] = field(default_factory=dict)
    _said: float = field(default_factory=time.monotonic)

    def run(self) -> bool:
        """Run everything.

        Returns:
            Whether it came to its end; ``False`` after a wish to stop.

        Raises:
            LeaseLostError: another runner has taken over.
            StorageError: the output folder takes no more.
            InputError: the bundle cannot be loaded, or an input is not there.
        """
        finished = False
        try:
            while not finished and not self.wishes.stop():
                self._check()
                busy = bool(self._waiting or self._running)
                self._find(0.0 if busy else _TICK_S)
                self._say_how_far()
                self._hand_out()
                self._collect(_TICK_S)
                finished = self.discovery.finished and not self._waiting and not self._running
            if not finished:
                self._wind_down()
        finally:
            if self._pool is not None:
                self._pool.close(kill=bool(self._running))
        return finished

    def _check(self) -> None:
        if self.wishes.lost():
            raise LeaseLostError

    def _find(self, timeout_s: float) -> None:
        """Take findings, as many as there are, up to a number of cases in memory."""
        while not self.discovery.finished and len(self._waiting) < _MOST_WAITING:
            taken = self.discovery.take(timeout_s)
            if taken.last:
                self._scanned()
            if taken.nothing:
                return
            for key in taken.replaced:
                self._withdraw(key)
            for key in taken.replaced - {one.ref.key for one in taken.decisions}:
                self.intake.forget(key)
            for one in taken.decisions:
                case = self.intake.take(one)
                if case is not None:
                    self._waiting.append(case)
            timeout_s = 0.0

    def _say_how_far(self) -> None:
        """At most once a second, while the walk goes on."""
        moment = time.monotonic()
        if not self.discovery.finished and moment - self._said > 1:
            self._said = moment
            self.tell(Event(Kind.SCANNING, facts={"files": self.discovery.files}))

    def _scanned(self) -> None:
        self.intake.flush()
        others = dict(sorted(self.discovery.others.items()))
        self.journal.note(scanned=True, other_files=others)
        self.tell(Event(Kind.SCANNED, facts={"files": self.discovery.files}))

    def _withdraw(self, key: str) -> None:
        """A series that was handed out before: whatever is done about it is in vain."""
        self._waiting = deque(case for case in self._waiting if case.ref.key != key)
        for name, (case, _) in list(self._running.items()):
            if case.ref.key == key and self._pool is not None:
                self._pool.cancel(name)
                del self._running[name]

    def _hand_out(self) -> None:
        if self._waiting and self._pool is None:
            self.tell(Event(Kind.LOADING))
            self._pool = self.make_pool()
            self.on_loaded(self._pool.ready())
        while self._waiting and self._pool is not None and self._pool.free:
            case = self._waiting.popleft()
            job = self.settlement.begin(case)
            self._running[case.name] = case, job
            self._pool.submit(job)

    def _collect(self, timeout_s: float) -> None:
        if self._pool is None or not self._running:
            return
        for outcome in self._pool.wait(timeout_s):
            case, job = self._running.pop(outcome.name)
            self._check()
            again = self.settlement.settle(case, job, outcome)
            if again is not None:
                self._waiting.append(again)

    def _wind_down(self) -> None:
        """Let running cases end, for a while; give the rest back."""
        self.intake.flush()
        self.tell(Event(Kind.STOPPING, facts={"running": len(self._running)}))
        until = time.monotonic() + self.patience_s
        while self._running and time.monotonic() < until:
            self._collect(_TICK_S)
        for case, _ in self._running.values():
            self.journal.release(case.ref.key)
