"""``nestseg segment`` without ``--bundle``: each series goes to every bundle that fits it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape

from nestseg.batch.read import runs_in
from nestseg.batch.stops import ExitCode
from nestseg.bundle import locate
from nestseg.bundle.info import BundleInfo, read_info
from nestseg.cli import choice, tables
from nestseg.cli.scan import scan_with_progress
from nestseg.cli.segment import run as run_one
from nestseg.cli.segment import write_report
from nestseg_prep.dicom.references import SeriesRef
from nestseg_prep.dicom.rules import SAFE, Rules
from nestseg_prep.errors import InputError
from nestseg_prep.selection import Decision, Selection


def run(
    paths: list[Path],
    out: Path,
    *,
    only: str = "",
    one_per_study: bool = False,
    rules: Rules = SAFE,
    **options: Any,
) -> int:
    """Segment every series by each bundle of nestseg that fits it, into a folder for each bundle.

    Args:
        paths: folders or files.
        out: results go to ``out/BUNDLE``, one report of all to ``out``.
        only: parts of bundles' names, comma-separated; empty for all. Series that do not name
            their body part are taken only if this is given.
        one_per_study: take one series of each study for each bundle.
        rules: what is refused.
        options: of :func:`nestseg.cli.segment.run`.

    Returns:
        The highest exit code of the bundles; 1 if one of them could not be started.

    Raises:
        InputError: no bundle is called so, or none fits any series.
    """
    wishes = selections(only, one_per_study=one_per_study)
    with tempfile.TemporaryDirectory(prefix="nestseg-") as unpacked:
        found = scan_with_progress(paths, Path(unpacked), rules)
        fits = fitting(found.series, wishes)
    _show(found.series, fits)
    wanted = [name for name in fits if any(one.taken for one in fits[name])]
    if not wanted:
        raise InputError(
            f"{paths[0]}: no series that fits a bundle; name one with --bundle, or a part of its "
            "name with --only to take series that do not name their body part"
        )
    code = 0
    for name in wanted:
        tables.console.print(f"[bold]{name}[/]")
        try:
            one = run_one(paths, name, out / name, selection=wishes[name], rules=rules, **options)
        except InputError as error:
            tables.stderr.print(str(error), style="red", markup=False, highlight=False)
            one = ExitCode.SOME_FAILED
        code = max(code, one)
        if one not in (ExitCode.ALL_DONE, ExitCode.SOME_FAILED):
            break  # stopped, or the output folder is held
    if runs_in(out):
        tables.console.print(f"All bundles: {write_report(out)}", soft_wrap=True)
    return code


def names(only: str = "") -> list[str]:
    """The bundles that are tried.

    Args:
        only: parts of names, comma-separated; empty for all. A whole name also finds a bundle that
            runs by its name only.

    Raises:
        InputError: a part is in no name.
    """
    known = locate.names()
    usual = [name for name in known if not by_name_only(read_info(locate.find(name)))]
    if not only:
        return usual
    found: dict[str, None] = {}
    for part in (word.strip() for word in only.split(",")):
        fit = [part] if part in known else [name for name in usual if part and part in name]
        if not fit:
            raise InputError(f"--only {part}: no bundle is called so; there are {', '.join(known)}")
        found |= dict.fromkeys(fit)
    return list(found)


def by_name_only(info: BundleInfo) -> bool:
    """Whether a bundle runs only if it is named.

    Those for pictures, which do not say what they show, and those whose metadata say
    ``"by_name_only": true`` because another bundle does the same better.
    """
    return info.selection.pictures or info.metadata.get("by_name_only") is True


def selections(only: str = "", *, one_per_study: bool = False) -> dict[str, Selection]:
    """The rules of each bundle that is tried; arguments as of :func:`run`."""
    found = {}
    for name in names(only):
        rules = choice.selection(name, one_per_study=one_per_study)
        found[name] = rules if only else rules.changed({"unnamed": False}, name)
    return found


def fitting(
    series: Sequence[SeriesRef], selections: Mapping[str, Selection]
) -> dict[str, list[Decision]]:
    """What each bundle says of each series, in the order of both."""
    return {name: selection.decide(series) for name, selection in selections.items()}


def _show(series: Sequence[SeriesRef], fits: Mapping[str, Sequence[Decision]]) -> None:
    """Print which bundles run on each series, or why none does."""
    rows = tables.table("Bundles for each series", "series", "modality", "shape voxels", "bundles")
    for number, ref in enumerate(series):
        decisions = {name: fits[name][number] for name in fits}
        taken = [name for name, one in decisions.items() if one.taken]
        told = f"[green]{', '.join(taken)}[/]" if taken else escape(why_none(ref, decisions))
        rows.add_row(ref.key, tables.modality(ref), tables.by(ref.shape), told)
    tables.console.print(rows)


def why_none(ref: SeriesRef, decisions: Mapping[str, Decision]) -> str:
    """Why no bundle takes a series: the word of the bundle that it passes the most rules of."""
    if not ref.accepted:
        return f"refused: {ref.reason}"
    nearest = max(decisions, key=lambda name: _passed(decisions[name]))
    return f"none; {nearest}: {decisions[nearest].reason}"


def _passed(decision: Decision) -> int:
    """How many rules a series passes before the first that it misses; modality comes first."""
    missed = (n for n, check in enumerate(decision.checks) if not check.passed)
    return next(missed, len(decision.checks))
