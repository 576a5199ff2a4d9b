"""The truth about a batch: every change of a case is one transaction of the runner that may write.

Each transaction first proves by its token that no other runner has taken over: what a frozen
runner still had to say when it wakes up changes no row.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nestseg.batch import schema
from nestseg.batch.entries import Entry, Publication, Restored, Stored
from nestseg.batch.read import outputs_from
from nestseg.batch.states import Cause, Output, State
from nestseg.batch.stops import LeaseLostError, StorageError


class Journal:
    """The cases of one journal, as the holder of a lease writes them.

    Args:
        path: of the file; the tables are there.
        token: of the lease.
    """

    def __init__(self, path: Path, token: int) -> None:
        self.token, self._path = token, path
        self._connection = schema.connect(path)

    def close(self) -> None:
        """Close the file."""
        with suppress(sqlite3.Error):
            self._connection.close()

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """One transaction of the runner whose token this is.

        Raises:
            LeaseLostError: the token is no longer the current one; nothing was changed.
            StorageError: the file cannot be written, or was damaged meanwhile; nothing was changed.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            mine = self._connection.execute(
                "UPDATE lease SET beat = beat + 1 WHERE token = ? AND released = 0", (self.token,)
            )
            if not mine.rowcount:
                raise LeaseLostError
            yield self._connection
            self._connection.execute("COMMIT")
        except sqlite3.IntegrityError:
            raise
        except sqlite3.DatabaseError as error:
            raise StorageError(f"journal: {error}") from error
        finally:
            if self._connection.in_transaction:
                with suppress(sqlite3.Error):  # SQLite has rolled back by itself
                    self._connection.execute("ROLLBACK")

    def note(self, **values: Any) -> None:
        """Set what holds for the whole run."""
        with self._change() as db:
            db.executemany(
                "INSERT OR REPLACE INTO run (name, value) VALUES (?, ?)",
                [(name, json.dumps(value)) for name, value in values.items()],
            )

    def _select(self, query: str, *values: str) -> list[sqlite3.Row]:
        """Rows of a query.

        Raises:
            StorageError: the file cannot be read.
        """
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise StorageError(f"journal: {error}") from error

    @property
    def is_empty(self) -> bool:
        """Whether no series was ever entered."""
        return not self._select("SELECT key FROM cases LIMIT 1")

    def stored(self, key: str) -> Stored | None:
        """What is known of a case; ``None`` if nothing is."""
        row = next(iter(self._select("SELECT * FROM cases WHERE key = ?", key)), None)
        if row is None:
            return None
        return Stored(
            row["name"],
            State(row["state"]),
            row["failures"],
            outputs_from(row["outputs"]),
            row["input_digest"],
            row["settings_digest"],
        )

    def see(self, keys: Iterable[str]) -> None:
        """Cases are among the inputs again, and nothing about them has changed."""
        with self._change() as db:
            db.executemany(
                "UPDATE cases SET seen = ? WHERE key = ?", [(self.token, key) for key in keys]
            )

    def enter(self, entry: Entry) -> None:
        """Write down a series, new or changed, with no failures held against it.

        Outputs that it had stay on record until new ones replace them.
        """
        with self._change() as db:
            self._enter(db, entry)

    def _enter(self, db: sqlite3.Connection, entry: Entry) -> None:
        (place,) = db.execute("SELECT coalesce(max(place), 0) + 1 FROM cases").fetchone()
        db.execute(
            "INSERT INTO cases (key, name, series, state, reason, input_digest, "
            "settings_digest, place, seen) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (key) DO UPDATE SET name = excluded.name, series = excluded.series, "
            "state = excluded.state, reason = excluded.reason, cause = NULL, failures = 0, "
            "publishing = NULL, input_digest = excluded.input_digest, "
            "settings_digest = excluded.settings_digest, seen = excluded.seen, "
            "outputs = CASE excluded.state WHEN 'found' THEN outputs ELSE '[]' END",
            (
                entry.key,
                entry.name,
                json.dumps(entry.series),
                *entry[3:],
                place,
                self.token,
            ),
        )

    def start(self, key: str) -> int:
        """A case is given to a worker; which attempt this is, from 1."""
        with self._change() as db:
            db.execute(
                "UPDATE cases SET state = ?, attempts = attempts + 1, started = ?, "
                "finished = NULL WHERE key = ?",
                (State.RUNNING, now(), key),
            )
            (attempts,) = db.execute("SELECT attempts FROM cases WHERE key = ?", (key,)).fetchone()
        return int(attempts)

    def publish(self, one: Publication) -> None:
        """From here on a case will be done: its files lie whole in the staging folder."""
        with self._change() as db:
            db.execute("UPDATE cases SET publishing = ? WHERE key = ?", (one.to_json(), one.key))

    def publishing(self) -> list[Publication]:
        """Cases whose files are on their way.

        Raises:
            InputError: what is on record of one is damaged.
        """
        found = self._select(
            "SELECT publishing FROM cases WHERE publishing IS NOT NULL ORDER BY place"
        )
        try:
            return [Publication.from_json(row["publishing"]) for row in found]
        except (ValueError, TypeError, KeyError) as error:
            raise schema.damaged(self._path) from error

    def done(self, one: Publication) -> None:
        """Every file of a case has its name."""
        outputs = json.dumps([asdict(output) for output in one.outputs])
        with self._change() as db:
            db.execute(
                "UPDATE cases SET state = ?, cause = NULL, reason = '', publishing = NULL, "
                "outputs = ?, facts = ?, worker = ?, finished = ? WHERE key = ?",
                (State.DONE, outputs, json.dumps(asdict(one.facts)), one.worker, now(), one.key),
            )

    def fail(self, key: str, state: State, cause: Cause, reason: str, worker: str) -> int:
        """An attempt came to nothing; how many have, that count.

        Args:
            key: of the case.
            state: ``FOUND`` for another attempt, else ``FAILED`` or ``QUARANTINED``: then it has
                no outputs left.
            cause: why.
            reason: the same in words.
            worker: where.
        """
        kept = "" if state is State.FOUND else ", outputs = '[]', facts = '{}'"
        with self._change() as db:
            db.execute(
                "UPDATE cases SET state = ?, cause = ?, reason = ?, worker = ?, finished = ?, "  # noqa: S608
                f"publishing = NULL, failures = failures + 1{kept} WHERE key = ?",
                (state, cause, reason, worker, now(), key),
            )
        (row,) = self._select("SELECT failures FROM cases WHERE key = ?", key)
        return int(row["failures"])

    def release(self, key: str | None = None) -> None:
        """A case, or every one that nobody works on any more, waits again; nothing counts."""
        with self._change() as db:
            db.execute(
                "UPDATE cases SET state = ?, publishing = NULL "
                "WHERE state = ? AND key = coalesce(?, key)",
                (State.FOUND, State.RUNNING, key),
            )

    def restore(self, cases: Iterable[Restored]) -> None:
        """Enter cases of another journal, all of them or none."""
        with self._change() as db:
            for one in cases:
                self._enter(db, one.entry)
                db.execute(
                    "UPDATE cases SET outputs = ?, facts = ?, attempts = ?, started = ?, "
                    "finished = ?, seen = 0 WHERE key = ?",
                    (
                        json.dumps([asdict(output) for output in one.outputs]),
                        json.dumps(asdict(one.facts)),
                        one.attempts,
                        one.started,
                        one.finished,
                        one.entry.key,
                    ),
                )

    def again(self, keys: Iterable[str]) -> None:
        """Let the next run segment cases that are done; their outputs stay on record until then."""
        with self._change() as db:
            db.executemany(
                "UPDATE cases SET state = ?, failures = 0 WHERE key = ? AND state = ?",
                [(State.FOUND, key, State.DONE) for key in keys],
            )

    def restamp(self, outputs: Mapping[str, Iterable[Output]]) -> None:
        """Put what the outputs of cases are now on record, by key."""
        with self._change() as db:
            db.executemany(
                "UPDATE cases SET outputs = ? WHERE key = ?",
                [(json.dumps([asdict(one) for one in many]), key) for key, many in outputs.items()],
            )

    def withdraw(self, key: str) -> None:
        """Forget a series: what was taken for it turned out to be something else."""
        with self._change() as db:
            db.execute("DELETE FROM cases WHERE key = ?", (key,))


def now() -> str:
    """The moment for people to read, ISO 8601 in UTC. Nothing is ever decided by it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
