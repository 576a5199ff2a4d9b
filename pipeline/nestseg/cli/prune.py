"""``nestseg prune``: a bundle with several heads in, the smallest that is good enough out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nestseg.bundle import cage, keeper, locate, trust
from nestseg.bundle.kernel import Grants
from nestseg.cli import bundles, tables

if TYPE_CHECKING:
    from nestseg.pruning.record import Record

ALL_SCORED = 0
SOME_FAILED = 1


def run(
    bundle_name: str,
    data: Path,
    out: Path,
    tolerance: float | None,
    budget_ms: float | None,
    budget_mb: float | None,
) -> int:
    """Score and time the levels of a bundle, and write the chosen one to ``out``.

    Args:
        bundle_name: name or folder of the full bundle.
        data: data set, or the file that lists its cases.
        out: folder of the pruned bundle.
        tolerance: as of :class:`~nestseg.pruning.choice.Rule`.
        budget_ms: likewise.
        budget_mb: likewise.

    Returns:
        0 if every validation case was scored, else 1.

    Raises:
        InputError: nothing could be pruned; nothing was written.
    """
    folder = bundles.find(bundle_name)
    if trust.needs_cage(folder):
        budgets = {"tolerance": tolerance, "budget-ms": budget_ms, "budget-mb": budget_mb}
        given = [f"--{name}={value}" for name, value in budgets.items() if value is not None]
        return _caged(folder, data.resolve(), out.resolve(), given)
    with tables.stderr.status("Loading the model …"):
        from nestseg.pruning import choice, prune

        rule = choice.Rule(tolerance, budget_ms, budget_mb)
    with tables.progress() as bar:
        tasks = []
        progress = prune.Progress(
            start=lambda name, steps: tasks.append(bar.add_task(name, total=steps)),
            step=lambda: bar.advance(tasks[-1]),
        )
        record = prune.prune(folder, data, out, rule, progress=progress)
    _report(record)
    for failure in record.scoring.failed:
        line = f"nestseg: {failure.case}: {failure.error}"
        tables.stderr.print(line, soft_wrap=True, markup=False, highlight=False)
    scoring = record.scoring
    tables.console.print(
        f"L{record.chosen.level}, {record.chosen.reason}; {scoring.scored} of {scoring.cases} "
        f"validation cases scored; the pruned bundle is {out}",
        soft_wrap=True,
    )
    return SOME_FAILED if scoring.failed else ALL_SCORED


def _caged(folder: Path, data: Path, out: Path, options: list[str]) -> int:
    """Run the same command in a cage; its output is written beside the place that it is for."""
    from nestseg_prep.cohort import cases
    from nestseg_prep.errors import InputError

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: is there already; give a new folder or remove it")
    files = [Path(path) for case in cases(data, "val") for path in case.values()]
    out.parent.mkdir(parents=True, exist_ok=True)
    with keeper.scratch(out.parent, f".{out.name}.partial-") as staging:
        made = staging / out.name
        arguments = ["prune", str(folder), f"--data={data}", f"--out={made}", *options]
        read = (locate.home(), folder, data, *files)
        code = cage.run("nestseg.cli", arguments, Grants(read, (staging,), processes=True))
        if made.is_dir():
            made.replace(out)
    return code


def _report(record: Record) -> None:
    from nestseg.pruning import card

    rows = tables.table("Levels", *card.columns(record.scoring.surface_tolerance_mm), "outcome")
    for level in record.levels:
        chosen = level.level == record.chosen.level
        rows.add_row(*card.cells(level), "[green]chosen[/]" if chosen else "")
    tables.console.print(rows)
