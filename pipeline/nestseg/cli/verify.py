"""``nestseg verify``: is every result still what it was? Never imports torch."""

from __future__ import annotations

from pathlib import Path

from nestseg.batch import verifying
from nestseg.batch.stops import StopError
from nestseg.batch.view import CaseRow
from nestseg.cli import tables

ALL_RIGHT = 0
DIFFERS = 1


def run(out: Path, *, again: bool, show_phi: bool) -> int:
    """Compare every file in an output folder with its digest, and say what differs.

    Args:
        out: the folder.
        again: let the next run segment the cases concerned.
        show_phi: name files that no case has made.

    Returns:
        0 if everything is right, 1 if something differs; with ``again``, what
        :class:`nestseg.batch.stops.ExitCode` says if a journal cannot be written.

    Raises:
        InputError: there is no journal, or one of them is damaged.
    """
    found = verifying.verify(out)
    for one in found.differences:
        _say(f"{one.path}: {one.what}")
    for path in found.extra if show_phi else ():
        _say(f"{path}: made by no case that is done")
    if found.extra and not show_phi:
        _say(f"files made by no case that is done: {len(found.extra)} (--show-phi names them)")
    if found.record_changed:
        _say("run.json: not as it was written; the next run writes it again")
    cases = {one.case.key: one.case for one in found.differences}
    _say(f"{found.cases} cases, {found.files} files: {_summary(found, len(cases))}")
    if cases:
        return _repeat(out, list(cases.values()), again=again)
    return ALL_RIGHT if found.is_right else DIFFERS


def _summary(found: verifying.Verified, cases: int) -> str:
    if found.is_right:
        return "all as they were written"
    return f"{len(found.differences)} differ, of {cases} cases"


def _repeat(out: Path, cases: list[CaseRow], *, again: bool) -> int:
    if not again:
        _say(f"to segment these cases again: `nestseg verify {out} --again`")
        return DIFFERS
    try:
        verifying.mark_again(out, cases)
    except StopError as error:
        tables.stderr.print(f"nestseg: {out}: {error}", soft_wrap=True, markup=False)
        return error.code
    _say(f"run the same `nestseg segment … -o {out}` again: it repeats {len(cases)} cases")
    return DIFFERS


def _say(text: str) -> None:
    tables.console.print(text, soft_wrap=True, markup=False, highlight=False)
