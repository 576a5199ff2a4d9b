"""The journals of an output folder → a view of it. Imports no torch, and writes nothing."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from nestseg.batch import schema
from nestseg.batch.states import Cause, Facts, Flag, Output, State
from nestseg.batch.view import CaseRow, RunHeader, RunView, side_by_side
from nestseg_prep.errors import InputError


def read_view(out: Path, *, only: Path | None = None) -> RunView:
    """Everything that the journals of an output folder say now.

    Args:
        out: the folder; of several bundles, the folder that holds one for each.
        only: one of its journals; ``None`` for all.

    Raises:
        InputError: there is no journal, or one of them is damaged or cannot be read now.
    """
    paths = [only] if only else schema.journals_in(out)
    if not paths and (runs := runs_in(out)):
        return side_by_side({folder.name: read_view(folder) for folder in runs})
    if not paths:
        raise InputError(f"{out}: no journal; give the --out folder of `nestseg segment`")
    headers, rows = [], []
    for path in paths:
        try:
            header, found = _read(path)
            _merged([header])
        except sqlite3.Error as error:
            raise _unreadable(path, error) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise schema.damaged(path) from error
        headers.append(header)
        rows += found
    rows.sort(key=lambda one: one[0])
    return RunView(_merged(headers), tuple(row for _, row in rows))


def runs_in(out: Path) -> list[Path]:
    """The output folders of several bundles in a folder that has no journal itself."""
    if schema.journals_in(out) or not out.is_dir():
        return []
    return sorted(path for path in out.iterdir() if path.is_dir() and schema.journals_in(path))


def _unreadable(path: Path, error: sqlite3.Error) -> InputError:
    if schema.is_busy(error):
        return InputError(f"{path}: another process has locked it; try again when that is done")
    # Errors without a code come from Python, of text that is none.
    if schema.is_damage(error) or not hasattr(error, "sqlite_errorcode"):
        return schema.damaged(path)
    return InputError(f"{path}: cannot be read ({error}); check its permissions and its disk")


_LAST = (State.REFUSED, State.UNFIT)


def _read(path: Path) -> tuple[dict[str, Any], list[tuple[tuple[bool, int, str], CaseRow]]]:
    connection = schema.connect(path, read_only=True)
    try:
        schema.check(connection, path)
        connection.execute("BEGIN")  # one moment for all tables
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if "cases" not in tables:  # another shard is just making it
            return {}, []
        run = {
            name: json.loads(value)
            for name, value in connection.execute("SELECT name, value FROM run").fetchall()
        }
        lease = connection.execute("SELECT token FROM lease").fetchone()
        token = lease["token"] if lease else 0
        rows = [
            ((row["state"] in _LAST, row["place"], row["key"]), _case(row, token))
            # At once: a cursor that an exception keeps would keep the file locked.
            for row in connection.execute("SELECT * FROM cases").fetchall()
        ]
    finally:
        connection.close()
    return run, rows


def _case(row: sqlite3.Row, token: int) -> CaseRow:
    series = json.loads(row["series"])
    done = row["state"] == State.DONE
    return CaseRow(
        name=row["name"],
        key=row["key"],
        kind=series["kind"],
        modality=series["modality"],
        shape=series["shape"] and tuple(series["shape"]),
        spacing=series["spacing"] and tuple(series["spacing"]),
        findings=tuple(series["findings"]),
        state=State(row["state"]),
        cause=row["cause"] and Cause(row["cause"]),
        reason=row["reason"],
        attempts=row["attempts"],
        outputs=outputs_from(row["outputs"]) if done else (),
        facts=facts_from(row["facts"]) if done else Facts(),
        input_digest=row["input_digest"],
        settings_digest=row["settings_digest"],
        started=row["started"],
        finished=row["finished"],
        worker=row["worker"],
        seen=row["seen"] == token,
        part=series.get("part", ""),
    )


def outputs_from(text: str) -> tuple[Output, ...]:
    """Outputs from their JSON in the journal."""
    return tuple(Output(**one) for one in json.loads(text))


def facts_from(text: str) -> Facts:
    """Facts from their JSON in the journal."""
    facts = json.loads(text)
    flags = tuple(Flag(**one) for one in facts.pop("flags", ()))
    return Facts(**facts | {"flags": flags, "notes": tuple(facts.get("notes", ()))})


def _merged(runs: list[dict[str, Any]]) -> RunHeader:
    """The header of several shards: the first one's words, everybody's times and counts."""
    first = next((run for run in runs if run), {})
    ends = [run.get("finished") for run in runs]
    known = {name: first[name] for name in _SHARED if name in first}
    return RunHeader(
        **known,
        labels={int(value): name for value, name in first.get("labels", {}).items()},
        started=min((run["started"] for run in runs if run.get("started")), default=None),
        finished=max(end for end in ends if end) if all(ends) and ends else None,
        scanned=all(run.get("scanned", False) for run in runs),
        other_files=first.get("other_files", {}),  # every shard sees all of them
        shards=(len(runs), first.get("shard_count", 1)),
    )


_SHARED = ("nestseg", "bundle", "options", "device", "python", "libraries")
