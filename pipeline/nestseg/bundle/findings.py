"""What a check of a bundle finds: one line each, with its place and the remedy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """Whether a finding fails the check."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a bundle.

    Attributes:
        file: within the bundle; a file of ``configs/`` goes by its name alone.
        place: config id such as ``train#handlers#2#_target_``; empty for the whole file.
        problem: what is wrong.
        remedy: what to do about it.
        severity: errors fail the check, warnings only if asked to, notes never.
    """

    file: str
    place: str
    problem: str
    remedy: str
    severity: Severity = Severity.ERROR

    @property
    def line(self) -> str:
        """The finding as one line of printable characters: what it quotes is foreign text."""
        where = f"{self.file}: {self.place}" if self.place else self.file
        text = f"{where}: {self.problem}" + (f"; {self.remedy}" if self.remedy else "")
        return "".join(c if c.isprintable() else "?" for c in text)


def failing(findings: list[Finding], *, strict: bool) -> list[Finding]:
    """Those that fail the check, warnings among them if it is strict."""
    kept = (Severity.ERROR, Severity.WARNING) if strict else (Severity.ERROR,)
    return [finding for finding in findings if finding.severity in kept]


def warning(file: str, place: str, problem: str, remedy: str) -> Finding:
    """A finding that does not fail the check."""
    return Finding(file, place, problem, remedy, Severity.WARNING)


def note(file: str, place: str, text: str) -> Finding:
    """Something to know about a bundle that is neither right nor wrong."""
    return Finding(file, place, text, "", Severity.NOTE)
