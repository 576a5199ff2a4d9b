"""Folder → series, from headers alone: what is there, and what is wrong with it.

Files are judged by content, never by name. A DICOMDIR is not followed: the files are read
themselves. Nothing that a file holds stops the scan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from nestseg_prep.dicom.references import OtherFile, ScanResult, SeriesRef
from nestseg_prep.dicom.rules import SAFE, Rules
from nestseg_prep.dicom.stream import stream

__all__ = ["OtherFile", "Rules", "ScanResult", "SeriesRef", "scan"]


def scan(
    root: str | Path | Sequence[str | Path],
    *,
    rules: Rules = SAFE,
    unpack_to: Path | None = None,
    on_file: Callable[[int], None] | None = None,
    pictures: bool = False,
) -> ScanResult:
    """Finds every DICOM series and NIfTI image below one or more folders.

    Args:
        root: folders (walked in full, links followed once) or files.
        rules: what is refused.
        unpack_to: folder into which zip and tar files are unpacked, which has to stay for as long
            as their series are read; without it, archives are only named.
        on_file: called with the number of files seen so far, for a progress display.
        pictures: take PNG, TIFF and JPEG as images too; in a hospital folder they are documents.

    Returns:
        Series in the order of their keys, then files that belong to none.

    Raises:
        InputError: a root does not exist.
    """
    roots = [Path(one) for one in ([root] if isinstance(root, str | Path) else root)]
    series: list[SeriesRef] = []
    others: list[OtherFile] = []
    for found in stream(
        roots, rules=rules, unpack_to=unpack_to, on_file=on_file, pictures=pictures, whole=True
    ):
        series += found.series
        others += found.others
    return ScanResult(
        tuple(sorted(series, key=lambda ref: (ref.kind, ref.key))),
        tuple(sorted(others, key=lambda other: str(other.path))),
    )
