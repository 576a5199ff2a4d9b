"""What a run came to, as tables; ``run.json`` and the report have everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from nestseg.batch.states import State
from nestseg.batch.view import CaseRow, RunView
from nestseg.cli import tables
from nestseg.outputs.volumetry import in_figures

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
    """Print both, and which files are not images."""
    cases, skipped = cases_of(view), skipped_of(view)
    if cases:
        shown = _most_telling(cases)
        tables.console.print(_case_table(shown, list(view.header.labels.values()), view.unit))
        if (remarks := _remarks_table(shown)) is not None:
            tables.console.print(remarks)
    if len(cases) > _MOST_ROWS:
        tables.console.print(f"and {len(cases) - _MOST_ROWS} more cases: see run.json")
    if unknown := sum(row.kind == "nifti" for row in cases):
        tables.console.print(
            f"{unknown} files do not say their modality and body part (they are not DICOM): check "
            "that they are what the bundle is made for"
        )
    if skipped:
        tables.console.print(_skipped_table(skipped))
    if view.header.other_files:
        others = [f"{count} {code}" for code, count in view.header.other_files.items()]
        tables.console.print(f"Files skipped: {', '.join(others)}")


def _most_telling(cases: Sequence[CaseRow]) -> Sequence[CaseRow]:
    """All cases, or of too many those that failed, then those to look at, then others."""
    bad_first = sorted(cases, key=lambda row: (row.state is State.DONE, not row.to_look_at))
    return cases if len(cases) <= _MOST_ROWS else bad_first[:_MOST_ROWS]


def _case_table(cases: Sequence[CaseRow], labels: list[str], unit: str) -> Table:
    columns = [f"{label} {unit}" for label in labels]
    doubt = any(row.facts.uncertainty is not None for row in cases)
    columns += ["uncertainty"] if doubt else []
    rows = tables.table("Cases", "case", "modality", "shape voxels", *columns, "s", "outcome")
    for row in cases:
        done = row.state is State.DONE
        rows.add_row(
            row.name,
            ", ".join(filter(None, [tables.modality(row), escape(row.part)])),
            tables.by(row.shape),
            *(_size(row, label, unit) for label in labels),
            *([_uncertainty(row)] if doubt else []),
            f"{sum(row.facts.seconds.values()):.1f}" if done else "–",
            _outcome(row),
        )
    return rows


def _size(row: CaseRow, label: str, unit: str) -> str:
    """The size of a label, with its unit where that is not the column's."""
    own, values = row.facts.sizes.measured
    if label not in values:
        return "–"
    size = f"{values[label]:.2f}" if own == "ml" else in_figures(values[label], own)
    return size if own == unit else f"{size} {own}"


def _uncertainty(row: CaseRow) -> str:
    return "–" if row.facts.uncertainty is None else f"{row.facts.uncertainty:.3f}"


def _outcome(row: CaseRow) -> str:
    """The state with its reason, or the codes of what a person should look at."""
    codes = ", ".join(dict.fromkeys(flag.code for flag in row.to_look_at))
    style = "yellow" if codes else _STYLES.get(row.state, "yellow")
    said = row.reason or codes
    return f"[{style}]{row.state}[/]" + (f": {escape(said)}" if said else "")


def _remarks_table(cases: Sequence[CaseRow]) -> Table | None:
    """The same in sentences, with what was done differently than asked."""
    rows = tables.table("To look at", "case", "what")
    for row in cases:
        said = [flag.sentence for flag in row.to_look_at] + list(row.facts.notes)
        if said:
            rows.add_row(row.name, escape("; ".join(said)))
    return rows if rows.row_count else None


def _skipped_table(skipped: Sequence[CaseRow]) -> Table:
    """Series that were not segmented, by reason; ``run.json`` has them one by one."""
    rows = tables.table("Not segmented", "series", "modality", "why")
    reasons = Counter((row.state, tables.modality(row), row.reason) for row in skipped)
    for (state, modality, reason), count in sorted(reasons.items()):
        word = "refused" if state is State.REFUSED else "does not fit"
        rows.add_row(str(count), modality, f"[yellow]{word}[/]: {escape(reason)}")
    return rows
