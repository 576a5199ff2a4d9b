"""``nestseg prepare --bundle``: the training set that a bundle's recipe asks for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from nestseg.bundle import cage, locate, trust
from nestseg.bundle.kernel import Grants
from nestseg.cli import bundles, tables
from nestseg_prep.errors import InputError
from nestseg_prep.prepared import RECORD_NAME

if TYPE_CHECKING:
    from nestseg_prep.transforms.prepare import CaseOutcome

ALL_DONE = 0
SOME_FAILED = 1


def run(dataset: Path, bundle_name: str, out: Path) -> int:
    """Prepare the training cases of ``dataset`` as the bundle's train config says.

    Returns:
        0 if every case was prepared, else 1.

    Raises:
        InputError: nothing could be started: no such bundle or data set, or ``out`` is no folder;
            or no case could be prepared.
    """
    folder = bundles.find(bundle_name)
    if trust.needs_cage(folder):
        out.mkdir(parents=True, exist_ok=True)
        arguments = ["prepare", str(dataset), "--bundle", str(folder), "--out", str(out.resolve())]
        grants = Grants(read=(locate.home(), folder, dataset.resolve()), write=(out.resolve(),))
        return cage.run("nestseg.cli", arguments, grants)
    with tables.stderr.status("Reading the recipe …"):
        from nestseg.bundle.training import read_pipeline
        from nestseg_prep.transforms.prepare import prepare_training_set

        cases, transform = read_pipeline(folder, dataset.resolve())
    with tables.progress() as bar:
        task = bar.add_task("Preparing", total=len(cases))
        outcomes = prepare_training_set(cases, transform, out, on_case=lambda _: bar.advance(task))
    _report(outcomes, out)
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    for outcome in failed:
        line = f"nestseg: case {outcome.number}: {outcome.error}"
        tables.stderr.print(line, soft_wrap=True, markup=False, highlight=False)
    if len(failed) == len(cases):
        raise InputError(f"{dataset}: none of its {len(cases)} training cases could be prepared")
    return SOME_FAILED if failed else ALL_DONE


def _report(outcomes: list[CaseOutcome], out: Path) -> None:
    states = Counter[str](outcome.state for outcome in outcomes)
    classes: Counter[str] = Counter()
    shapes: dict[str, set[tuple[int, ...]]] = {}
    # A case that the list names twice is there once.
    stored = {o.stored.digest: o.stored for o in outcomes if o.stored is not None}
    for case in stored.values():
        classes.update(case.classes)
        for key, array in case.arrays.items():
            shapes.setdefault(key, set()).add(array.shape)
    samples = sum(len(o.stored.notes) for o in outcomes if o.stored is not None)
    rows = tables.table("Training set", "what", "value")
    rows.add_row("cases", f"{len(outcomes)}: {_counted(states)}")
    rows.add_row("samples", str(samples))
    for key, found in shapes.items():
        sizes = sorted(found)
        text = " to ".join(tables.by(size) for size in dict.fromkeys((sizes[0], sizes[-1])))
        rows.add_row(f"shape of {key}", text)
    if classes:
        rows.add_row("voxels of each class", ", ".join(f"{k}: {n}" for k, n in classes.items()))
    rows.add_row("MB", f"{sum(case.bytes for case in stored.values()) / 1e6:.1f}")
    tables.console.print(rows)
    tables.console.print(f"Record: {out / RECORD_NAME}")


def _counted(states: Counter[str]) -> str:
    return ", ".join(f"{n} {state}" for state, n in sorted(states.items()))
