"""Damaged files beside the slices of a series: what they say about it. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from nestseg_prep.dicom.findings import Code, Finding
from nestseg_prep.dicom.references import OtherFile, SeriesRef

TOO_SHORT: Final = "shorter than any image"


def warned(series: Sequence[SeriesRef], others: Sequence[OtherFile]) -> list[SeriesRef]:
    """Speaks up where an unreadable file might have been a slice.

    Where it lies among the files of one series alone, the series is put aside: what is left of it
    may still look perfect. Among several, nobody can tell whose it was.
    """
    members: dict[Path, set[tuple[str, str]]] = defaultdict(set)
    suffixes: dict[Path, set[str]] = defaultdict(set)
    for ref in series:
        for path in ref.files if ref.kind == "dicom" else ():
            members[path.parent].add((ref.study_uid, ref.series_uid))
            suffixes[path.parent].add(path.suffix.lower())
    damaged = Counter(
        other.path.parent for other in others if _may_be_a_slice(other, suffixes[other.path.parent])
    )
    result = []
    for ref in series:
        folders = {path.parent for path in ref.files}
        count = sum(damaged[folder] for folder in folders)
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
    """Whether a file is damaged DICOM, or empty or overwritten under the name of a slice."""
    if other.finding.code is Code.UNREADABLE:
        return True
    suffix = other.path.suffix.lower()
    if other.finding.code is not Code.NOT_AN_IMAGE_FILE or suffix not in suffixes:
        return False
    # Notes without suffix lie in folders of slices without suffix; only short ones are in doubt.
    return bool(suffix) or other.finding.detail == TOO_SHORT
