"""What the page shows of cases: thumbnails of all that fit, volumes of the first that fit."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nestseg.outputs.snapshot import Snapshot, read_snapshot

PLANES_BYTES = 40_000_000
VOLUMES_BYTES = 60_000_000
"""As they stand in the page, in base64."""


@dataclass
class Pictures:
    """Base64 by key of case.

    Attributes:
        planes: WebP with the three planes.
        volumes: gzipped NIfTI of image and mask.
        left_out: how many cases have a snapshot whose volumes found no room.
    """

    planes: dict[str, str] = field(default_factory=dict)
    volumes: dict[str, tuple[str, str]] = field(default_factory=dict)
    left_out: int = 0


def collect(
    report: dict[str, Any],
    out: Path,
    planes_bytes: int = PLANES_BYTES,
    volumes_bytes: int = VOLUMES_BYTES,
) -> Pictures:
    """Read the snapshots of a report's cases; those with flags first, then in their order.

    Args:
        report: as :func:`nestseg.report.table.table` makes it.
        out: the output folder.
        planes_bytes: room for thumbnails in the page.
        volumes_bytes: room for volumes in the page.
    """
    made = Pictures()
    for row in sorted(report["rows"], key=lambda row: not row["flags"]):
        found = snapshot_of(row, out)
        if found is None:
            continue
        planes = b64encode(found.planes).decode()
        if len(planes) > planes_bytes:
            break  # the page is full: a hundred thousand snapshots are not read for nothing
        made.planes[row["key"]] = planes
        planes_bytes -= len(planes)
        volume = (b64encode(found.image).decode(), b64encode(found.mask).decode())
        if len(volume[0]) + len(volume[1]) <= volumes_bytes:
            made.volumes[row["key"]] = volume
            volumes_bytes -= len(volume[0]) + len(volume[1])
    kept = sum("snapshot" in row["files"] for row in report["rows"])
    made.left_out = kept - len(made.volumes)
    return made


def snapshot_of(row: dict[str, Any], out: Path) -> Snapshot | None:
    """The snapshot of a row, if it has one that can be read and lies in the folder."""
    name = row["files"].get("snapshot")
    if name is None:
        return None
    path = (out / name).resolve()
    if not path.is_relative_to(out.resolve()):
        return None
    try:
        return read_snapshot(path)
    except (OSError, ValueError):
        return None  # a picture less is no reason to have no report
