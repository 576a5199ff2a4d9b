"""What a run came to, as tables; ``run.json`` and the report have everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from nestseg.batch.states import State
from nestseg.batch.view import CaseRow, RunView
from nestseg.cli import tables

_MOST_ROWS = 50
_SKIPPED = (State.REFUSED, State.UNFIT)
_STYLES = {State.DONE: "green", State.FAILED: "red", State.QUARANTINED: "red"}


def cases_of(view: RunView) -> list[CaseRow]:
    """The series that the last run was to segment."""
    return [row for row in view.rows if row.seen and row.state not in _SKIPPED]


def skipped_of(view: RunView) -> list[CaseRow]:
    """The series that it left out."""
    return [row for row in view.rows if row.seen and row.state in _SKIPPED]


def show(view: RunView) -> None:
    """Print both, and files that are no series."""
    cases, skipped = cases_of(view), skipped_of(view)
    if cases:
        tables.console.print(_case_table(cases, list(view.header.labels.values())))
    if len(cases) > _MOST_ROWS:
        tables.console.print(f"and {len(cases) - _MOST_ROWS} cases more: see run.json")
    if skipped:
        tables.console.print(_skipped_table(skipped))
    if view.header.other_files:
        others = [f"{count} {code}" for code, count in view.header.other_files.items()]
        tables.console.print(f"Files skipped: {', '.join(others)}")


def _case_table(cases: Sequence[CaseRow], labels: list[str]) -> Table:
    columns = [f"{label} ml" for label in labels]
    rows = tables.table("Cases", "case", "modality", "shape voxels", *columns, "s", "outcome")
    bad_first = sorted(cases, key=lambda row: row.state is State.DONE)
    shown = cases if len(cases) <= _MOST_ROWS else bad_first[:_MOST_ROWS]
    for row in shown:
        sizes = row.facts.volumes_ml
        done = row.state is State.DONE
        style = _STYLES.get(row.state, "yellow")
        rows.add_row(
            row.name,
            ", ".join(filter(None, [_modality(row), escape(row.part)])),
            tables.by(row.shape),
            *(f"{sizes[label]:.2f}" if label in sizes else "–" for label in labels),
            f"{sum(row.facts.seconds.values()):.1f}" if done else "–",
            f"[{style}]{row.state}[/]" + (f": {escape(row.reason)}" if row.reason else ""),
        )
    return rows


def _skipped_table(skipped: Sequence[CaseRow]) -> Table:
    """Series that were not segmented, by reason; ``run.json`` has them one by one."""
    rows = tables.table("Not segmented", "series", "modality", "why")
    reasons = Counter((row.state, _modality(row), row.reason) for row in skipped)
    for (state, modality, reason), count in sorted(reasons.items()):
        word = "refused" if state is State.REFUSED else "does not fit"
        rows.add_row(str(count), modality, f"[yellow]{word}[/]: {escape(reason)}")
    return rows


def _modality(row: CaseRow) -> str:
    return "NIfTI" if row.kind == "nifti" else row.modality or "–"
