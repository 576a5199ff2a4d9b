"""What came of an attempt → files under their names, or a failure that is on record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nestseg.batch import publish
from nestseg.batch.cases import Case
from nestseg.batch.digests import input_digest
from nestseg.batch.entries import Publication
from nestseg.batch.events import Event, Kind, Listener
from nestseg.batch.jobs import Job, Outcome
from nestseg.batch.journal import Journal
from nestseg.batch.retrying import after
from nestseg.batch.states import Cause, State
from nestseg.batch.stops import StorageError

_CHANGED = "the input changed since it was found; run again when it is whole"


class Settlement:
    """Settles cases in one output folder.

    Args:
        journal: of the run.
        out: the output folder.
        staging: this token's.
        tell: is told of every case.
    """

    def __init__(self, journal: Journal, out: Path, staging: Path, tell: Listener) -> None:
        self._journal, self._out, self._staging, self._tell = journal, out, staging, tell

    def begin(self, case: Case) -> Job:
        """Hand out a case."""
        attempt = self._journal.start(case.ref.key)
        self._tell(Event(Kind.STARTED, case.name, ref=case.ref))
        staging = self._staging / f"{case.name}.{attempt}"
        return Job(case.name, case.ref, attempt, staging, case.gentle)

    def settle(self, case: Case, job: Job, outcome: Outcome) -> Case | None:
        """Put an outcome on record.

        Returns:
            The case again, if it is to have another attempt.

        Raises:
            LeaseLostError: another runner has taken over.
            StorageError: the output folder takes no more; the case waits for the next run.
        """
        cause, reason = outcome.cause, outcome.reason
        if cause is not Cause.CHANGED and input_digest(case.ref) != case.input_digest:
            cause, reason = Cause.CHANGED, _CHANGED
        if cause is Cause.STORAGE:
            self._journal.release(case.ref.key)  # no fault of its own
            raise StorageError(f"{reason}; make room or mend it, and run the same command again")
        if cause is not None:
            publish.clear([job.staging])
            return self._fail(case, cause, reason, outcome)
        one = Publication(
            case.ref.key, job.staging.name, outcome.outputs, outcome.facts, outcome.worker
        )
        self._journal.publish(one)
        self._finish(one, [job.staging], doubtful=False)
        publish.clear([job.staging])
        self._tell(_done(case, outcome))
        return None

    def recover(self, fenced: Sequence[Path]) -> None:
        """Finish what runners before were about to publish; what they had begun waits again.

        Args:
            fenced: their staging folders, out of their reach.
        """
        for one in self._journal.publishing():
            try:
                self._finish(one, [folder / one.staging for folder in fenced], doubtful=True)
            except FileNotFoundError:
                continue  # some file is lost: it runs again
            self._tell(Event(Kind.RECOVERED, text=one.key))
        self._journal.release()

    def _finish(self, one: Publication, stagings: list[Path], *, doubtful: bool) -> None:
        stored = self._journal.stored(one.key)
        try:
            publish.publish(self._out, stagings, one.outputs, doubtful=doubtful)
            if stored is not None:  # with other options it had other files
                publish.remove(self._out, stored.outputs, but=one.outputs)
        except FileNotFoundError:
            # Renamed away by a runner that took over: then this raises, and is right to.
            self._journal.release(one.key)
            if doubtful:
                raise
            raise StorageError("staged files are gone; run the same command again") from None
        except OSError as error:
            self._journal.release(one.key)
            raise StorageError(
                f"{error.strerror} while results got their names; mend it and run again"
            ) from error
        self._journal.done(one)

    def _fail(self, case: Case, cause: Cause, reason: str, outcome: Outcome) -> Case | None:
        stored = self._journal.stored(case.ref.key)
        failures = stored.failures + 1 if stored else 1
        state = after(cause, failures)
        if state is not State.FOUND and stored is not None:
            # Masks of an input that has changed since would be taken for this one's.
            publish.remove(self._out, stored.outputs)
        self._journal.fail(case.ref.key, state, cause, reason, outcome.worker)
        again = state is State.FOUND
        kind = Kind.RETRY if again else Kind.FAILED
        self._tell(Event(kind, case.name, reason, case.ref, {"cause": str(cause)}))
        if not again:
            return None
        return Case(case.name, case.ref, case.input_digest, gentle=cause is Cause.MEMORY)


def _done(case: Case, outcome: Outcome) -> Event:
    facts = {
        "seconds": round(sum(outcome.facts.seconds.values()), 3),
        "slices": case.ref.shape[2] if case.ref.shape else 0,
        "volumes_ml": outcome.facts.volumes_ml,
        "areas_mm2": outcome.facts.areas_mm2,
        "pixels": outcome.facts.pixels,
    }
    return Event(Kind.DONE, case.name, ref=case.ref, facts=facts)
