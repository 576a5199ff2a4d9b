"""Whether the pixel data that a header announces is there, without reading it."""

from __future__ import annotations

from enum import Enum
from typing import BinaryIO, Final, Literal

from pydicom.dataset import FileDataset

from nestseg_prep.dicom import files


class Pixels(Enum):
    """How much of the pixel data is in the file."""

    COMPLETE = "complete"
    CUT = "cut"
    ABSENT = "absent"


_UNDEFINED_LENGTH: Final = 0xFFFFFFFF
_PIXEL_DATA: Final = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")


def pixels_in(file: BinaryIO, dataset: FileDataset, expected: int) -> Pixels:
    """Compares the length of the pixel data with what the header declares.

    Args:
        file: stands at the pixel data element, if there is one.
        dataset: what stands before it.
        expected: bytes of uncompressed pixel data.
    """
    if files.is_deflated(dataset):
        return Pixels.COMPLETE  # unpacked to its end when it was opened
    head = file.read(12)
    if head[:4] not in _PIXEL_DATA:
        return Pixels.ABSENT
    implicit, little = dataset.original_encoding
    order: Literal["little", "big"] = "little" if little else "big"
    at = 4 if implicit else 8
    length = int.from_bytes(head[at : at + 4], order)
    start = file.tell() - len(head) + at + 4
    if length == _UNDEFINED_LENGTH:
        return _encapsulated(file, start)
    end = file.seek(0, 2)
    return Pixels.COMPLETE if start + length <= end and length >= expected else Pixels.CUT


def _encapsulated(file: BinaryIO, start: int) -> Pixels:
    """Steps over the fragments of compressed pixel data to its closing delimiter."""
    end = file.seek(0, 2)
    at = start
    while at + 8 <= end:
        file.seek(at)
        tag, length = file.read(4), int.from_bytes(file.read(4), "little")
        if tag == b"\xfe\xff\xdd\xe0":
            return Pixels.COMPLETE
        if tag != b"\xfe\xff\x00\xe0":
            break
        at += 8 + length
    return Pixels.CUT
