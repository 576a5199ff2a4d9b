"""The report on disk: ``report.html``, ``report.json`` and ``report.csv``."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from nestseg.batch.read import read_view
from nestseg.report.page import page
from nestseg.report.pictures import collect
from nestseg.report.sheet import sheet
from nestseg.report.table import table
from nestseg_prep.disk import sync_folder

PAGE = "report.html"
_PARTIAL = ".report-partial-"


def write(out: Path) -> Path:
    """Write the report of an output folder from its journals, each file whole or not at all.

    Args:
        out: the folder of a run; of several shards, all of them are in one report.

    Returns:
        The path of ``report.html``.

    Raises:
        InputError: there is no journal, or it cannot be read.
        OSError: the report cannot be written; what was there stays.
    """
    try:
        _write_all(out)
    except FileNotFoundError:  # another shard ended at this moment and tidied up: see below
        _write_all(out)
    return out / PAGE


def _write_all(out: Path) -> None:
    report = table(read_view(out))
    _write(out / "report.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    # The mark at the start tells spreadsheets that the text is UTF-8.
    _write(out / "report.csv", "\ufeff" + sheet(report))
    _write(out / PAGE, page(report, collect(report, out)))
    for left in out.glob(f"{_PARTIAL}*"):  # of one that was killed
        left.unlink(missing_ok=True)
    sync_folder(out)


def _write(path: Path, text: str) -> None:
    # A name that nobody else takes: several shards may end at the same moment.
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=_PARTIAL)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(partial).replace(path)
    finally:
        Path(partial).unlink(missing_ok=True)
