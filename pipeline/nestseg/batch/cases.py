"""Cases: which series of a scan are segmented, under which names, and why the others are not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from nestseg_prep.dicom.references import SeriesRef
from nestseg_prep.selection import Selection

_LONGEST_NAME = 80


@dataclass(frozen=True)
class Case:
    """One series to segment.

    Attributes:
        name: what its outputs are called; unique in a run, fit for a file name.
        ref: the series.
    """

    name: str
    ref: SeriesRef


@dataclass(frozen=True)
class Skipped:
    """A series that is not segmented.

    Attributes:
        ref: the series.
        refused: whether it cannot be trusted (else it does not fit the bundle).
        reason: one sentence.
    """

    ref: SeriesRef
    refused: bool
    reason: str


def choose(series: Iterable[SeriesRef], selection: Selection) -> tuple[list[Case], list[Skipped]]:
    """Divide the series of a scan into cases and the rest.

    A DICOM series is named by its key, since what stands in its tags may lead to a patient; a NIfTI
    file or picture keeps the name that its owner gave it.
    """
    chosen: list[SeriesRef] = []
    skipped: list[Skipped] = []
    for one in selection.decide(series):
        if one.taken:
            chosen.append(one.ref)
        else:
            refused = not one.ref.accepted
            reason = one.ref.reason if refused else one.reason
            skipped.append(Skipped(one.ref, refused=refused, reason=reason))
    stems = [_stem(ref) for ref in chosen]
    many = Counter(stem.lower() for stem in stems)  # some file systems ignore case
    cases = [
        Case(stem if many[stem.lower()] == 1 else f"{stem}_{ref.key}", ref)
        for stem, ref in zip(stems, chosen, strict=True)
    ]
    return cases, skipped


def _stem(ref: SeriesRef) -> str:
    if ref.kind == "dicom":
        return ref.key
    stem = re.sub(r"\.(nii(\.gz)?|png|tiff?|jpe?g)$", "", ref.files[0].name, flags=re.IGNORECASE)
    return re.sub(r"[^A-Za-z0-9._-]+", "_", stem).lstrip(".")[:_LONGEST_NAME] or ref.key
