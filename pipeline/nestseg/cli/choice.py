"""Which rules choose the series: a bundle's, changed by a file and by options. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from nestseg.bundle import locate
from nestseg.bundle.info import read_info
from nestseg.cli import tables
from nestseg_prep.dicom.references import ScanResult
from nestseg_prep.selection import Decision, Selection, read_rules

if TYPE_CHECKING:
    from rich.table import Table

_TIE_BREAK = ("thinnest", "most_slices", "newest")


def selection(
    bundle: str | None, select: Path | None = None, *, one_per_study: bool = False
) -> Selection:
    """The rules of a bundle with those of a file laid over them.

    Args:
        bundle: name or folder; ``None`` to start from a rule that takes every volume.
        select: YAML file whose rules replace the bundle's; ``null`` drops one.
        one_per_study: take one series of each study, unless the rules already say how.

    Raises:
        InputError: there is no such bundle, or a rule is wrong.
    """
    chosen = read_info(locate.find(bundle)).selection if bundle else Selection()
    if select is not None:
        chosen = chosen.changed(read_rules(select), select.name)
    if one_per_study and not chosen.one_per_study:
        chosen = chosen.changed({"one_per_study": list(_TIE_BREAK)}, "--one-per-study")
    return chosen


def table(decisions: list[Decision], *, show_phi: bool) -> Table:
    """Each series, rule by rule."""
    rows = tables.table("Choice", "series", "taken", "rule", "found", "wanted")
    ordered = sorted(decisions, key=lambda one: (one.ref.study_key, one.ref.kind, one.ref.key))
    for one in ordered:
        first = (one.ref.key, "[green]yes[/]" if one.taken else "[red]no[/]")
        for rule, found, wanted in _lines(one, show_phi=show_phi):
            rows.add_row(*first, rule, escape(found), escape(wanted))
            first = ("", "")
    return rows


def _lines(one: Decision, *, show_phi: bool) -> list[tuple[str, str, str]]:
    refusal = one.ref.refusal
    lines = [("readable", str(refusal.code) if refusal else "yes", "yes")]
    if refusal is None:
        for check in one.checks:
            mark = "" if check.passed else "[red]✗[/] "
            lines.append((mark + check.rule, check.shown(show_phi=show_phi), check.wanted))
    if one.passed_over:
        lines.append(("[red]✗[/] one of a study", one.passed_over, "the first"))
    return lines


def to_json(found: ScanResult, decisions: list[Decision], *, show_phi: bool) -> dict[str, Any]:
    """The scan for ``--json``, each series with ``taken``, ``why_not`` and its ``checks``."""
    report = found.to_json(show_phi=show_phi)
    for entry, one in zip(report["series"], decisions, strict=True):
        entry["taken"] = one.taken
        entry["why_not"] = one.reason if one.ref.accepted else one.ref.reason
        entry["checks"] = [
            {
                "rule": check.rule,
                "passed": check.passed,
                "found": check.shown(show_phi=show_phi),
                "wanted": check.wanted,
            }
            for check in one.checks
        ]
    return report
