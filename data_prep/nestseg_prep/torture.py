"""The acceptance test of the ingest: every kind of odd series and file, and what became of it.

``python -m nestseg_prep.torture`` writes each kind of ``phantom.kinds`` as files, scans and reads
them, compares every voxel and its place with the truth, prints one table, and fails unless
nothing is silently wrong and enough is right.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from nestseg_prep import comparison
from nestseg_prep.dicom.references import ScanResult, SeriesRef
from nestseg_prep.dicom.rules import SAFE, Rules
from nestseg_prep.dicom.scan import scan
from nestseg_prep.dicom.series import read_stored
from nestseg_prep.errors import InputError
from nestseg_prep.phantom.kinds import KINDS
from nestseg_prep.phantom.truth import Kind, Truth
from nestseg_prep.reading import read_volume
from nestseg_prep.volume import Volume

Verdict: TypeAlias = Literal["right", "split right", "refused", "WRONG"]
ASKED: Final = Rules(fill_missing=True, min_slices=1, regroup=True)
GOAL_RIGHT: Final = 44
# The colour series is in the list for completeness: nobody could read it as a volume.
_UNCOUNTED: Final = "31_rgb"
_EXPECTED: Final[dict[str, Verdict]] = {
    "read": "right",
    "split": "split right",
    "refused": "refused",
}


@dataclass(frozen=True)
class Answer:
    """What became of one kind.

    Attributes:
        verdict: right, split right, refused with a code, or WRONG.
        did: the same in words.
        farthest: mm between a voxel and its true place, at most.
    """

    verdict: Verdict
    did: str
    farthest: float = 0.0


@dataclass(frozen=True)
class Row:
    """One kind with the answers by the safe rules, and as a person may ask for."""

    kind: Kind
    safe: Answer
    asked: Answer

    @property
    def as_expected(self) -> bool:
        """Whether both answers are those of the catalogue."""
        asked = self.kind.asked or self.kind.expected
        wanted = (_EXPECTED[self.kind.expected], _EXPECTED[asked])
        return (self.safe.verdict, self.asked.verdict) == wanted

    @property
    def counted(self) -> bool:
        """Whether the kind belongs to those that the goal speaks of."""
        return self.kind.name[0].isdigit() and self.kind.name != _UNCOUNTED


def examine(kind: Kind, folder: Path) -> Row:
    """Writes one kind of series, reads it by both rules and judges what came out."""
    truth = kind.make(folder)
    return Row(kind, _answer(kind, folder, truth, SAFE), _answer(kind, folder, truth, ASKED))


def _answer(kind: Kind, folder: Path, truth: Sequence[Truth], rules: Rules) -> Answer:
    result = scan(folder, rules=rules)
    left = dict(enumerate(truth))
    farthest = 0.0
    try:
        for ref in result.accepted:
            farthest = max(farthest, _held_against(ref, left, kind.said))
    except _WrongError as wrong:
        return Answer("WRONG", str(wrong))
    except InputError as error:
        # Only the pixels showed it.
        named = all(code in str(error) for code in kind.codes)
        return Answer("refused" if named else "WRONG", str(error).partition(": ")[2])
    if farthest > comparison.TOLERANCE_MM:
        return Answer("WRONG", f"voxels {farthest:.2f} mm from where they are", farthest)
    unsaid = _unsaid(kind, result) if rules is SAFE or kind.asked is None else ""
    lost = bool(left) or not truth
    if unsaid and not lost:
        return Answer("WRONG", f"read without a word: {unsaid}")
    return _said(kind, result, lost=lost, farthest=farthest)


class _WrongError(Exception):
    """A volume that was read is not what lies in its files."""


def _held_against(ref: SeriesRef, left: dict[int, Truth], said: Sequence[str]) -> float:
    """Takes the true volume of a series out of those that are left; mm that it is misplaced.

    Raises:
        InputError: the series cannot be read.
        _WrongError: there is none, its values differ, or another is said to be there.
    """
    volume = read_volume(ref)
    found = comparison.find_truth(volume, list(left.values()))
    if found is None:
        raise _WrongError("a volume of slices that do not belong together")
    number = next(n for n, one in left.items() if one is found)
    del left[number]
    if not isinstance(found, Volume) and (
        wrong := comparison.difference(volume, read_stored(ref), found)
    ):
        raise _WrongError(wrong)
    if said and ref.part != said[number]:
        raise _WrongError(f"said to be {ref.part!r}, which is {said[number]!r}")
    return comparison.misplacement(volume, found)


def _unsaid(kind: Kind, result: ScanResult) -> str:
    found = {finding.code for ref in result.series for finding in ref.findings}
    found |= {other.finding.code for other in result.others}
    return ", ".join(sorted(set(kind.codes) - set(map(str, found))))


def _said(kind: Kind, result: ScanResult, *, lost: bool, farthest: float) -> Answer:
    refusals = [ref.refusal.code for ref in result.series if ref.refusal]
    refusals += [other.finding.code for other in result.others if other.finding.refuses]
    codes = ", ".join(dict.fromkeys(map(str, refusals)))
    count = len(result.accepted)
    if lost:
        if not refusals:
            return Answer("WRONG", "slices were lost without a word")
        missing = set(kind.codes) - set(map(str, refusals))
        if missing and not count:
            return Answer("WRONG", f"refused for another reason: {codes}")
        return Answer("refused", codes)
    marks = {
        str(finding.code)
        for ref in result.accepted
        for finding in ref.findings
        if ref.resampled and finding.severity == "warning"
    }
    did = "; ".join(
        filter(None, [f"{count} volumes" if count > 1 else "1 volume", ", ".join(sorted(marks)),
                      codes and f"rest refused: {codes}"])
    )  # fmt: skip
    safe_keys = all(re.fullmatch(r"[0-9a-f-]+", ref.key) for ref in result.series)
    if not safe_keys:
        return Answer("WRONG", "a key that is unfit for a file name")
    return Answer("split right" if len(result.series) > 1 else "right", did, farthest)


def run(kinds: Sequence[Kind] = KINDS) -> list[Row]:
    """Examines every kind in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        return [examine(kind, Path(name) / kind.name) for kind in kinds]


def goal_missed(rows: Sequence[Row]) -> list[str]:
    """What stands between the rows and the goal, one line each; nothing where it is reached."""
    missed = [
        f"{row.kind.name}: not as expected ({row.safe.verdict}; asked: {row.asked.verdict})"
        for row in rows
        if not row.as_expected
    ]
    counted = [row for row in rows if row.counted]
    right = sum("right" in row.asked.verdict for row in counted)
    if right < GOAL_RIGHT:
        missed.append(f"{right} of {len(counted)} right or split right, the goal is {GOAL_RIGHT}")
    return missed


def table(rows: Sequence[Row]) -> str:
    """The rows and their totals as Markdown."""
    lines = [
        "| kind | expected | what was done | verdict | asked to fill and regroup | worst mm |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        asked = "as before" if row.asked == row.safe else f"{row.asked.verdict}: {row.asked.did}"
        worst = max(row.safe.farthest, row.asked.farthest)
        lines.append(
            f"| {row.kind.name} | {row.kind.expected} | {row.safe.did} | {row.safe.verdict} "
            f"| {asked} | {worst:.4f} |"
        )
    counted = [row for row in rows if row.counted]
    for name, answers in (
        ("of the list, by the safe rules", [row.safe for row in counted]),
        (
            "of the list, asked to fill missing slices and to take few",
            [row.asked for row in counted],
        ),
        ("in all, by the safe rules", [row.safe for row in rows]),
    ):
        verdicts = [answer.verdict for answer in answers]
        shares = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in _VERDICTS)
        lines.append(f"\n{len(answers)} kinds {name}: {shares}.")
    return "\n".join(lines)


_VERDICTS: Final[tuple[Verdict, ...]] = ("right", "split right", "refused", "WRONG")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; the exit code says whether the goal was reached."""
    parser = argparse.ArgumentParser(prog="python -m nestseg_prep.torture", description=__doc__)
    parser.add_argument("--kind", default="", help="only kinds whose name holds this")
    chosen = [kind for kind in KINDS if parser.parse_args(arguments).kind in kind.name]
    rows = run(chosen)
    print(table(rows))
    missed = [line for line in goal_missed(rows) if len(chosen) == len(KINDS) or ":" in line]
    for line in missed:
        print(line, file=sys.stderr)
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
