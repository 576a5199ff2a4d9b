"""``nestseg prepare``: the prep stage alone. Never imports torch or monai."""

from __future__ import annotations

from pathlib import Path

from nestseg.cli import tables
from nestseg_prep.dicom.rules import Rules
from nestseg_prep.errors import InputError
from nestseg_prep.prepare import RECORD_NAME, Outcome, prepare


def run(folder: Path, out: Path, rules: Rules) -> int:
    """Write every series of ``folder`` that the rules accept into ``out``.

    Returns:
        0, or 1 if a series failed or a folder could not be read, so that series may be missing.

    Raises:
        InputError: a folder cannot be read or written, or no series could be prepared.
    """
    with tables.stderr.status("Preparing …") as status:

        def show(outcome: Outcome) -> None:
            status.update(f"Preparing … {outcome.ref.key} {outcome.state}")

        report = prepare(folder, out, rules=rules, on_series=show)
    rows = tables.table("Prepared", "series", "modality", "shape voxels", "spacing mm", "outcome")
    for outcome in report.outcomes:
        _, shape, spacing = tables.geometry(outcome.ref)
        why = outcome.error or outcome.ref.reason
        rows.add_row(
            outcome.ref.key,
            tables.modality(outcome.ref),
            shape,
            spacing,
            f"{outcome.state}: {why}" if why else outcome.state,
        )
    tables.console.print(rows)
    tables.console.print(f"Record: {out / RECORD_NAME}")
    tables.say_unseen(report.scanned.unseen)
    if not report.count("written") + report.count("kept"):
        raise InputError(f"{folder}: no series that can be prepared; `nestseg scan` says why")
    return 1 if report.scanned.unseen or report.count("failed") else 0
