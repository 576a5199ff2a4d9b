"""Single values of a data set, without what makes pydicom's own conversion slow.

A scan asks two dozen elements of each of thousands of files. Texts and numbers of the plain kinds
are taken from their bytes; everything else goes through pydicom.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

# ASCII whatever the character set of the file is (PS3.5 6.1.2.2).
_ASCII: Final = frozenset({"CS", "DS", "IS", "UI", "DA", "TM", "DT"})
# Other characters, or an escape to them, need the file's character set.
_TEXT: Final = frozenset({"LO", "SH"})
_ESCAPE: Final = b"\x1b"


class _Element(NamedTuple):
    tag: BaseTag
    representation: str


@cache
def _element(keyword: str) -> _Element:
    number = tag_for_keyword(keyword)
    if number is None:
        msg = f"{keyword} is no keyword of DICOM"
        raise ValueError(msg)
    return _Element(Tag(number), dictionary_VR(number))


def holds(dataset: Dataset, keyword: str) -> bool:
    """Whether the element is there, be it empty."""
    return _element(keyword).tag in dataset


def texts(dataset: Dataset, keyword: str) -> list[str]:
    """The values of an element as text, without padding; none where it is absent or empty."""
    tag, representation = _element(keyword)
    if tag not in dataset:
        return []
    raw: Any = dataset.get_item(tag)  # annotated as always converted
    if (
        isinstance(raw, RawDataElement)
        and isinstance(raw.value, bytes)
        and raw.VR in {representation, None}
    ):
        plain = representation in _TEXT and raw.value.isascii() and _ESCAPE not in raw.value
        if plain or representation in _ASCII:
            content = raw.value.decode("ascii", "replace").strip("\0 ")
            return [one.strip("\0 ") for one in content.split("\\")] if content else []
        if representation == "US" and len(raw.value) == 2:
            return [str(int.from_bytes(raw.value, "little" if raw.is_little_endian else "big"))]
    return _converted(dataset, tag)


def text(dataset: Dataset, keyword: str) -> str:
    """The same in one text."""
    return "\\".join(texts(dataset, keyword))


def count(dataset: Dataset, keyword: str) -> int:
    """A whole number; 0 where the element is absent or empty.

    Raises:
        ValueError: it is something else.
    """
    found = texts(dataset, keyword)
    return int(found[0]) if found and found[0] else 0


def numbers(dataset: Dataset, keyword: str, size: int) -> tuple[float, ...] | None:
    """``size`` finite numbers, or ``None``: an element that is absent or broken says nothing."""
    try:
        found = tuple(map(float, texts(dataset, keyword)))
    except ValueError:
        return None
    return found if len(found) == size and all(map(math.isfinite, found)) else None


def _converted(dataset: Dataset, tag: BaseTag) -> list[str]:
    value: Any = dataset[tag].value
    if value is None:
        return []
    several = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return [str(item).strip("\0 ") for item in several]
