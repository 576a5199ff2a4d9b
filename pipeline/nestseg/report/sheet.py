"""``report.csv``: the rows for a spreadsheet, in which no cell can start a formula."""

from __future__ import annotations

import csv
import io
from typing import Any

_MEASURES = (("volumes_ml", "ml"), ("areas_mm2", "mm²"), ("pixels", "pixels"))
_STARTS_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def sheet(report: dict[str, Any]) -> str:
    """CSV with a line of headings and one line a row.

    Text that a spreadsheet would compute begins with an apostrophe; numbers are numbers.

    Args:
        report: as :func:`nestseg.report.table.table` makes it.
    """
    names = [label["name"] for label in report["labels"]]
    stages = list(dict.fromkeys(stage for row in report["rows"] for stage in row["stages"]))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")
    headings = ["case", "state", "cause", "reason", "kind", "modality", "part"]
    headings += ["shape", "spacing_mm"]
    measures = [(key, unit) for key, unit in _MEASURES if any(row[key] for row in report["rows"])]
    measures = measures or [_MEASURES[0]]
    headings += [f"{name} {unit}" for _, unit in measures for name in names]
    headings += ["uncertainty", "flags", "notes", "seconds", *(f"{stage} s" for stage in stages)]
    headings += ["peak_memory_mb", "attempts", "started", "finished", "mask"]
    writer.writerow(_harmless(heading) for heading in headings)
    for row in report["rows"]:
        cells = [row[name] for name in headings[:7]]
        cells += [_by(row["shape"]), _by(row["spacing_mm"])]
        cells += [row[key].get(name) for key, _ in measures for name in names]
        cells += [row["uncertainty"], _flags(row["flags"]), " ".join(row["notes"]), row["seconds"]]
        cells += [row["stages"].get(stage) for stage in stages]
        cells += [row[name] for name in ("peak_memory_mb", "attempts", "started", "finished")]
        cells += ["; ".join(one for role, one in row["files"].items() if role.startswith("mask"))]
        writer.writerow(_harmless(cell) for cell in cells)
    return stream.getvalue()


def _harmless(cell: Any) -> Any:
    if isinstance(cell, str) and cell.startswith(_STARTS_FORMULA):
        return f"'{cell}"
    return cell


def _by(numbers: tuple[float, ...] | None) -> str:
    return "x".join(f"{number:.4g}" for number in numbers) if numbers else ""


def _flags(flags: list[dict[str, str]]) -> str:
    return "; ".join(
        f"{flag['code']} ({flag['label']})" if flag["label"] else flag["code"] for flag in flags
    )
