"""A text planted in every attribute that can hold one, to see where it comes out again."""

from __future__ import annotations

from functools import cache
from typing import Final

from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import dictionary_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag, Tag

from nestseg_prep.phantom.damage import Damage, every, only

_TEXTS: Final = frozenset(
    {
        *("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC"),
        *("UI", "UN", "UR", "UT", "OB", "OW", "OB or OW"),
    }
)
# With nonsense in these no reader could tell what the image is.
_STRUCTURE: Final = frozenset({"PixelData", "NumberOfFrames", "ConcatenationUID"})
# File meta, commands and directories are not of a data set.
_OUTSIDE: Final = (0, 2, 4, 6)
_FREE: Final = ("Modality", "BodyPartExamined", "Manufacturer", "PatientName", "PatientID")
_SHARED: Final = "SharedFunctionalGroupsSequence"


def marked_everywhere(marker: str) -> Damage:
    """Plants a text in every attribute of the dictionary that holds text and is not used yet.

    At three depths: in the data set, in a sequence of it and in one below that; functional groups
    are such sequences. Geometry and pixels stay as they are.

    Args:
        marker: of even length, as elements are.
    """

    def change(ds: Dataset) -> None:
        _mark(ds, marker)
        for keyword in _FREE:
            _put(ds, Tag(keyword), marker)

    def change_below(ds: Dataset) -> None:
        lower = _item(marker, PurposeOfReferenceCodeSequence=[_item(marker)])
        ds.SourceImageSequence = DicomSequence([lower])
        for groups in ds.get(_SHARED, ()):
            for macro in [item for element in groups for item in element.value]:
                _mark(macro, marker)
            _mark(groups, marker)
            groups.DerivationImageSequence = DicomSequence([_item(marker)])

    # One file of a series is enough for what lies deeper, which takes time to write.
    return lambda series: only(lambda number: number == 0, change_below)(every(change)(series))


def _item(marker: str, **sequences: list[Dataset]) -> Dataset:
    item = Dataset()
    _mark(item, marker)
    for keyword, items in sequences.items():
        setattr(item, keyword, DicomSequence(items))
    return item


def _mark(ds: Dataset, marker: str) -> None:
    for tag in _text_tags():
        if tag not in ds:
            _put(ds, tag, marker)
    # Raw elements are written as they are, in a tenth of the time, if their encoding is known.
    ds.set_original_encoding(False, True, ds._character_set)


def _put(ds: Dataset, tag: BaseTag, marker: str) -> None:
    # As raw bytes: most representations would not take the text.
    content = marker.encode()
    kind = DicomDictionary[tag][0].split(" or ")[0]
    ds[tag] = RawDataElement(tag, kind, len(content), content, 0, False, True)


@cache
def _text_tags() -> tuple[BaseTag, ...]:
    return tuple(
        Tag(tag)
        for tag, entry in DicomDictionary.items()
        if entry[0] in _TEXTS
        and tag >> 16 not in _OUTSIDE
        and dictionary_keyword(tag) not in _STRUCTURE
    )
