"""A series that was found → a case to run, or a line in the journal."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from nestseg.batch import publish
from nestseg.batch.cases import Case, Names
from nestseg.batch.digests import input_digest
from nestseg.batch.discovery import series_facts
from nestseg.batch.entries import Entry, Stored
from nestseg.batch.events import Event, Kind, Listener
from nestseg.batch.journal import Journal
from nestseg.batch.shards import Shard, in_shard
from nestseg.batch.states import State
from nestseg_prep.selection import Decision

_AT_ONCE: Final = 200  # each transaction waits for the disk


class Intake:
    """Writes down what was found, and says what is to be done.

    Args:
        journal: where.
        out: the output folder.
        names: of all cases in it.
        settings_digest: of this run.
        shard: only its series are written down; ``None`` for all.
        retry: whether quarantined cases are tried again.
        tell: is told of every case.

    Attributes:
        fitting: how many series fit, those of other shards too.
        kept: how many cases were done before and are unchanged.
    """

    def __init__(
        self,
        journal: Journal,
        out: Path,
        names: Names,
        settings_digest: str,
        *,
        shard: Shard,
        retry: bool,
        tell: Listener,
    ) -> None:
        self._journal, self._out, self._names = journal, out, names
        self._settings_digest = settings_digest
        self._shard, self._retry, self._tell = shard, retry, tell
        self._seen: list[str] = []
        self.fitting = self.kept = 0

    def take(self, one: Decision) -> Case | None:
        """A case that is to be run, or ``None``."""
        ref = one.ref
        self.fitting += one.taken
        name = self._names.name(ref) if one.taken else ref.key
        if not in_shard(ref.key, self._shard):
            return None
        stored = self._journal.stored(ref.key)
        if not one.taken:
            state = State.UNFIT if ref.accepted else State.REFUSED
            reason = one.reason if ref.accepted else ref.reason
            self._forget_outputs(stored)
            self._journal.enter(Entry(ref.key, name, series_facts(ref), state, reason))
            return None
        digest = input_digest(ref)
        changed = self._difference(stored, digest)
        if stored and not changed and self._stays(stored):
            self._seen.append(ref.key)
            if len(self._seen) >= _AT_ONCE:
                self.flush()
            done = stored.state is State.DONE
            self.kept += done
            self._tell(Event(Kind.KEPT if done else Kind.PUT_ASIDE, name, ref=ref))
            return None
        if stored and not changed and stored.state is State.FOUND:
            self._journal.see([ref.key])  # interrupted: its failures still count
        else:
            found = Entry(
                ref.key, name, series_facts(ref), State.FOUND, "", digest, self._settings_digest
            )
            self._journal.enter(found)
        was_done = stored is not None and stored.state is State.DONE
        self._tell(Event(Kind.CHANGED if was_done else Kind.FOUND, name, changed, ref))
        return Case(name, ref, digest)

    def flush(self) -> None:
        """Write down what was found again unchanged, and has only been kept in mind so far."""
        self._journal.see(self._seen)
        self._seen.clear()

    def forget(self, key: str) -> None:
        """What was handed out under a key is something else; its outputs go with it."""
        stored = self._journal.stored(key)
        self._forget_outputs(stored)
        self._journal.withdraw(key)

    def _difference(self, stored: Stored | None, digest: str) -> str:
        """Why what is known of a case no longer holds; ``""`` if it does."""
        if stored is None or stored.state in (State.REFUSED, State.UNFIT):
            return ""
        if stored.input_digest != digest:
            return "its input has changed"
        if stored.settings_digest != self._settings_digest:
            return "the bundle or the options have changed"
        if stored.state is State.DONE and not publish.are_there(self._out, stored.outputs):
            return "its outputs are gone"
        return ""

    def _stays(self, stored: Stored) -> bool:
        if stored.state is State.QUARANTINED:
            return not self._retry
        return stored.state is State.DONE

    def _forget_outputs(self, stored: Stored | None) -> None:
        if stored is not None:
            publish.remove(self._out, stored.outputs)
