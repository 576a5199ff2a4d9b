"""Cases: series that are segmented, under names that are theirs for good."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from nestseg_prep.dicom.references import SeriesRef

_LONGEST_NAME = 80


@dataclass(frozen=True)
class Case:
    """One series to segment.

    Attributes:
        name: what its outputs are called; unique in a folder, fit for a file name.
        ref: the series.
        input_digest: of its files when they were found.
        gentle: whether to spare memory.
    """

    name: str
    ref: SeriesRef
    input_digest: str = ""
    gentle: bool = False


class Names:
    """Gives each series a name, and the same one again.

    A DICOM series is named by its key, since what stands in its tags may lead to a patient; a NIfTI
    file or picture keeps the name that its owner gave it, with the key behind it if another has
    that name already. No name begins with a dot or a dash: it would be hidden, or taken for an
    option by the programs that it is given to.

    Args:
        taken: name → key, from journals.
    """

    def __init__(self, taken: Mapping[str, str]) -> None:
        self._keys = {name.lower(): key for name, key in taken.items()}  # some systems ignore case
        self._names = {key: name for name, key in taken.items()}

    def name(self, ref: SeriesRef) -> str:
        """The name of a series."""
        known = self._names.get(ref.key)
        if known is not None:
            return known
        stem = _stem(ref)
        name = stem if self._keys.get(stem.lower(), ref.key) == ref.key else f"{stem}_{ref.key}"
        self._keys[name.lower()] = ref.key
        self._names[ref.key] = name
        return name


def _stem(ref: SeriesRef) -> str:
    if ref.kind == "dicom":
        return ref.key
    stem = re.sub(
        r"\.(nii(\.gz)?|nrrd|nhdr|mha|mhd|mg[hz]|png|tiff?|jpe?g)$",
        "",
        ref.files[0].name,
        flags=re.IGNORECASE,
    )
    return re.sub(r"[^A-Za-z0-9._-]+", "_", stem).lstrip(".-")[:_LONGEST_NAME] or ref.key
