"""An output folder against its journals: is every file still what its case has made?"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nestseg.batch import publish, record, schema
from nestseg.batch.journal import Journal
from nestseg.batch.lease import Lease
from nestseg.batch.read import read_view
from nestseg.batch.states import State
from nestseg.batch.view import CaseRow

_OF_A_RUN: Final = (record.FILE_NAME, "report.html", "report.json", "report.csv", "log.txt")


@dataclass(frozen=True)
class Difference:
    """A file that is not as it was made.

    Attributes:
        case: whose.
        path: relative to the output folder.
        what: ``"missing"`` or ``"changed"``.
    """

    case: CaseRow
    path: str
    what: str


@dataclass(frozen=True)
class Verified:
    """What an output folder was found to be.

    Attributes:
        cases: how many are done.
        files: how many files they have made.
        differences: files that are not as they were made.
        extra: files that no case that is done has made, relative to the folder.
        record_changed: whether ``run.json`` is not as it was written.
    """

    cases: int
    files: int
    differences: tuple[Difference, ...]
    extra: tuple[str, ...]
    record_changed: bool

    @property
    def is_right(self) -> bool:
        """Whether nothing differs."""
        return not (self.differences or self.extra or self.record_changed)


def verify(out: Path) -> Verified:
    """Compare the digest of every file of every finished case.

    Raises:
        InputError: there is no journal, or one of them is damaged.
    """
    rows = [row for row in read_view(out).rows if row.state is State.DONE]
    found = [
        Difference(row, output.path, what)
        for row in rows
        for output in row.outputs
        if (what := publish.difference(out, output))
    ]
    known = {output.path for row in rows for output in row.outputs}
    extra = tuple(path for path in sorted(_files(out)) if path not in known)
    changed = (out / record.FILE_NAME).exists() and record.read_record(out) is None
    return Verified(len(rows), len(known), tuple(found), extra, changed)


def mark_again(out: Path, cases: Iterable[CaseRow]) -> None:
    """Let the next run segment cases again.

    Raises:
        HeldError: a runner works on the folder.
        StorageError: a journal cannot be written.
    """
    keys = {row.key for row in cases}
    for path in schema.journals_in(out):
        lease = Lease(path)
        try:
            with closing(Journal(path, lease.token)) as journal:
                journal.again(keys)
        finally:
            lease.release()


def _files(out: Path) -> Iterator[str]:
    """What lies in the folder, but for hidden files and what every run writes."""
    for folder, below, names in os.walk(out):
        below[:] = [name for name in below if not name.startswith(".")]
        for name in names:
            if name in _OF_A_RUN or name.startswith((".", "journal")):
                continue
            yield Path(folder, name).relative_to(out).as_posix()
