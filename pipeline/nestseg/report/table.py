"""A view of an output folder → plain rows, totals and cohorts: what every kind of report shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from math import isfinite
from statistics import median
from typing import Any

from nestseg.batch.states import Flag, State
from nestseg.batch.view import CaseRow, RunView
from nestseg.outputs.planes import COLOURS
from nestseg.outputs.volumetry import in_figures
from nestseg.report.cohort import Cohort, cohort

VERSION = 1
_CASES = {State.FOUND, State.RUNNING, State.DONE, State.FAILED, State.QUARANTINED}


def table(view: RunView) -> dict[str, Any]:
    """The report as plain data: what ``report.json`` holds and the page shows.

    Nothing in it names a patient: a case is called what its files are called, files by their names
    in the output folder.

    Args:
        view: of the folder.

    Returns:
        ``run``, ``unit`` of most sizes, ``labels`` with their colours and cohorts in that unit,
        ``totals``, and ``rows``, one for each case and each series that is none.
    """
    names = _labels(view)
    cohorts = {name: _cohort(view, name) for name in names}
    rows = [_row(row, (*row.to_look_at, *_unusual(row, cohorts))) for row in view.rows]
    return {
        "version": VERSION,
        "run": view.header.to_json(),
        "unit": view.unit,
        "labels": [
            {
                "name": name,
                "colour": "#{:02x}{:02x}{:02x}".format(*COLOURS[place % len(COLOURS)]),
                "cohort": _cohort_json(cohorts[name]),
            }
            for place, name in enumerate(names)
        ],
        "totals": _totals(view, rows),
        "rows": rows,
    }


def _labels(view: RunView) -> list[str]:
    """The names of the structures, in the bundle's order; then what only cases speak of."""
    known = dict.fromkeys(view.header.labels.values())
    measured = (row.facts.sizes.measured[1] for row in view.rows)
    return list(known | dict.fromkeys(name for values in measured for name in values))


def _cohort(view: RunView, name: str) -> Cohort | None:
    done = ((row.key, *row.facts.sizes.measured) for row in view.rows if row.state is State.DONE)
    unit = view.unit
    sizes = {key: values[name] for key, own, values in done if own == unit and name in values}
    return cohort(sizes) if sizes else None


def _unusual(row: CaseRow, cohorts: dict[str, Cohort | None]) -> Iterator[Flag]:
    unit, values = row.facts.sizes.measured
    what = "volume" if unit == "ml" else "size"
    for name, one in cohorts.items():
        if one is not None and one.is_far(row.key):
            sentence = (
                f"{in_figures(values[name], unit)} {unit} is far from the other cases' {what}: the"
                f" middle of {one.cases} is {in_figures(one.median, unit)} {unit}"
                f" (robust z {one.scores[row.key]:+.1f})."
            )
            yield Flag(f"unusual-{what}", sentence, name)


def _row(row: CaseRow, flags: Iterable[Flag]) -> dict[str, Any]:
    facts = row.facts
    return {
        "key": row.key,
        "case": row.name,
        "state": row.state.value,
        "cause": row.cause and row.cause.value,
        "reason": row.reason,
        "kind": row.kind,
        "modality": row.modality,
        "part": row.part,
        "shape": row.shape,
        "spacing_mm": row.spacing,
        "volumes_ml": facts.volumes_ml,
        "areas_mm2": facts.areas_mm2,
        "pixels": facts.pixels,
        "uncertainty": _number(facts.uncertainty),
        "flags": [
            {"code": flag.code, "label": flag.label, "sentence": flag.sentence} for flag in flags
        ],
        "seconds": round(sum(facts.seconds.values()), 3) if facts.seconds else None,
        "stages": facts.seconds,
        "peak_memory_mb": facts.peak_memory_mb or None,
        "attempts": row.attempts,
        "started": row.started,
        "finished": row.finished,
        "notes": facts.notes,
        "findings": [str(finding.get("code", "")) for finding in row.findings],
        "files": {output.role: output.path for output in row.outputs},
        "seen": row.seen,
    }


def _number(value: float | None) -> float | None:
    """JSON has no NaN."""
    return value if value is not None and isfinite(value) else None


def _cohort_json(one: Cohort | None) -> dict[str, Any] | None:
    if one is None:
        return None
    low, high = one.quartiles
    return {"cases": one.cases, "median": one.median, "low": low, "high": high}


def _totals(view: RunView, rows: list[dict[str, Any]]) -> dict[str, Any]:
    seconds = [row["seconds"] for row in rows if row["seconds"] is not None]
    return {
        "cases": sum(row.state in _CASES for row in view.rows),
        "states": {state.value: count for state, count in sorted(view.counts.items())},
        "flagged": sum(bool(row["flags"]) for row in rows),
        "flags": dict(
            sorted(Counter(flag["code"] for row in rows for flag in row["flags"]).items())
        ),
        "seconds": round(sum(seconds), 3),
        "median_seconds": round(median(seconds), 3) if seconds else None,
        "peak_memory_mb": max((row["peak_memory_mb"] or 0 for row in rows), default=0) or None,
    }
