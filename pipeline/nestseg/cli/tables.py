"""Tables and progress bars on the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from nestseg_prep.dicom.references import OtherFile, SeriesRef

if TYPE_CHECKING:
    from nestseg.batch.view import CaseRow

_PIPE_WIDTH = 132
_LONGEST_CODE = 20  # of a flag or finding, but for the rarest

console = Console()
if not console.is_terminal:  # a pipe or a file has no width: do not fold at 80 columns
    console.width = _PIPE_WIDTH
stderr = Console(stderr=True)


def table(title: str, *columns: str) -> Table:
    """Make an empty table.

    Columns whose name ends in a unit are right-aligned, and their names fold where there is little
    room. Of the others only the last folds; its words are never cut.
    """
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        right = column.split()[-1] in {
            "mm",
            "ml",
            "mm²",
            "pixels",
            "uncertainty",
            "s",
            "ms",
            "voxels",
            "MB",
            "Dice",
        }
        last = column == columns[-1]
        made.add_column(
            column,
            justify="right" if right else "left",
            no_wrap=not (last or right),
            overflow="fold" if last else "ellipsis",
            min_width=_LONGEST_CODE if last and len(columns) > 2 else None,
        )
    return made


def progress() -> Progress:
    """A progress bar on stderr, on a terminal only."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=stderr,
        transient=True,
        disable=not stderr.is_terminal,
    )


def by(numbers: Sequence[float] | None, digits: str = "g") -> str:
    """``(0.8, 0.7, 2.5)`` → ``"0.8×0.7×2.5"``."""
    return "–" if numbers is None else "×".join(format(n, digits) for n in numbers)


def modality(ref: SeriesRef | CaseRow) -> str:
    """Modality of a series; a NIfTI file does not say it."""
    return "not in the file" if ref.kind == "nifti" else ref.modality or "–"


def geometry(ref: SeriesRef) -> tuple[str, str, str]:
    """Orientation, shape and spacing of a series as text."""
    return ref.orientation or "–", by(ref.shape), by(ref.spacing, ".3g")


def counted(others: Iterable[OtherFile]) -> str:
    """``"2 unreadable (EIO), 1 no-pixels"``: details name no file and no patient."""
    counts = Counter((str(other.finding.code), other.finding.detail) for other in others)
    return ", ".join(
        f"{count} {code} ({detail})" if detail else f"{count} {code}"
        for (code, detail), count in sorted(counts.items())
    )


def say_unseen(unseen: Sequence[OtherFile], *, show_phi: bool = False) -> None:
    """Say on stderr that folders could not be read, and why; which ones only with ``show_phi``."""
    if not unseen:
        return
    reasons = Counter(other.finding.detail for other in unseen)
    why = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    what = "1 folder or archive" if len(unseen) == 1 else f"{len(unseen)} folders or archives"
    lines = [
        f"nestseg: {what} cannot be read ({why}), and the content was left out; "
        "fix that and run the same command again"
    ]
    lines += [f"  {other.path} ({other.finding.detail})" for other in unseen if show_phi]
    for line in lines:
        stderr.print(line, soft_wrap=True, markup=False, highlight=False)
