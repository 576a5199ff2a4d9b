"""Unreadable files next to the slices of a series: what they say about it. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from nestseg_prep.dicom.findings import Code, Finding
from nestseg_prep.dicom.formats import APPLE_DOUBLE, LOST_CONTENT
from nestseg_prep.dicom.references import OtherFile, SeriesRef

TOO_SHORT: Final = "shorter than any image"


def warned(series: Sequence[SeriesRef], others: Sequence[OtherFile]) -> list[SeriesRef]:
    """Adds a finding to each series that an unreadable file might have been a slice of.

    Where the file lies among the files of one series alone, the series is refused: what is left of
    it may still look perfect. Among several, nobody can tell whose it was; and what a closed folder
    holds lies next to no slice.
    """
    members: dict[Path, set[tuple[str, str]]] = defaultdict(set)
    suffixes: dict[Path, set[str]] = defaultdict(set)
    for ref in series:
        for path in ref.files if ref.kind == "dicom" else ():
            members[path.parent].add((ref.study_uid, ref.series_uid))
            suffixes[path.parent].add(path.suffix.lower())
    damaged, closed = Counter[Path](), Counter[Path]()
    for other in others:
        folder = other.path.parent
        if other.kind == "folder":
            closed[folder] += 1
        elif _may_be_a_slice(other, suffixes[folder]):
            damaged[folder] += 1
    result = []
    for ref in series:
        folders = {path.parent for path in ref.files}
        count = sum(damaged[folder] + closed[folder] for folder in folders)
        if not count or ref.kind != "dicom":
            result.append(ref)
            continue
        alone = any(damaged[folder] and len(members[folder]) == 1 for folder in folders)
        code = Code.UNREADABLE_MEMBER if alone else Code.UNREADABLE_NEIGHBOUR
        # In front: what else seems wrong may follow from it.
        findings = (Finding(code, f"{count} files"), *ref.findings)
        result.append(replace(ref, findings=findings))
    return result


def _may_be_a_slice(other: OtherFile, suffixes: set[str]) -> bool:
    """Whether a file cannot be read, or is empty or overwritten under the name of a slice."""
    code, detail = other.finding.code, other.finding.detail
    if code in {Code.UNREADABLE, Code.WRONG_TRANSFER_SYNTAX}:
        return True
    suffix = other.path.suffix.lower()
    if code not in {Code.NOT_AN_IMAGE_FILE, Code.WRONG_CONTENT} or suffix not in suffixes:
        return False
    if detail == APPLE_DOUBLE:
        return False
    # Notes without suffix lie in folders of slices without suffix; only lost content is in doubt.
    return bool(suffix) or detail in {TOO_SHORT, *LOST_CONTENT}
