"""Whether the pixel data that a header announces is there, without reading it."""

from __future__ import annotations

from enum import Enum
from typing import BinaryIO, Final, Literal

from pydicom.dataset import FileDataset

from nestseg_prep.dicom import codestream, files


class Pixels(Enum):
    """How much of the pixel data is in the file, and whether it is what the file says."""

    COMPLETE = "complete"
    CUT = "cut"
    ABSENT = "absent"
    FLOAT = "float"
    """Float or Double Float Pixel Data (PS3.3 C.7.6.24) in place of integers."""
    MISLABELLED = "mislabelled"
    """Encoded in another way than the transfer syntax says."""


_UNDEFINED_LENGTH: Final = 0xFFFFFFFF
_PIXEL_DATA: Final = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")
_FLOAT_PIXEL_DATA: Final = (
    *(b"\xe0\x7f\x08\x00", b"\x7f\xe0\x00\x08"),
    *(b"\xe0\x7f\x09\x00", b"\x7f\xe0\x00\x09"),
)
# Enough of a code stream to hold what tells its kind.
_STREAM_BYTES: Final = 4096


def pixels_in(file: BinaryIO, dataset: FileDataset, expected: int) -> Pixels:
    """Compares the pixel data with what the header declares: its length, and how it is encoded.

    Args:
        file: stands at the pixel data element, if there is one.
        dataset: what stands before it.
        expected: bytes of uncompressed pixel data.
    """
    if files.is_deflated(dataset):
        return Pixels.COMPLETE  # unpacked to its end when it was opened
    head = file.read(12)
    if head[:4] not in _PIXEL_DATA:
        return Pixels.FLOAT if head[:4] in _FLOAT_PIXEL_DATA else Pixels.ABSENT
    implicit, little = dataset.original_encoding
    order: Literal["little", "big"] = "little" if little else "big"
    at = 4 if implicit else 8
    length = int.from_bytes(head[at : at + 4], order)
    start = file.tell() - len(head) + at + 4
    declared = codestream.declared_kind(dataset.file_meta.TransferSyntaxUID)
    encapsulated = length == _UNDEFINED_LENGTH
    if declared is not None and encapsulated == (declared == codestream.NATIVE):
        return Pixels.MISLABELLED
    if encapsulated:
        return _encapsulated(file, start, declared)
    end = file.seek(0, 2)
    if start + length <= end and length >= expected:
        return Pixels.COMPLETE
    file.seek(start)
    packed = codestream.kind(file.read(_STREAM_BYTES)) is not None
    return Pixels.MISLABELLED if packed and declared else Pixels.CUT


def _encapsulated(file: BinaryIO, start: int, declared: str | None) -> Pixels:
    """Steps over the fragments of compressed pixel data to its closing delimiter."""
    end = file.seek(0, 2)
    at, number = start, 0
    while at + 8 <= end:
        file.seek(at)
        tag, length = file.read(4), int.from_bytes(file.read(4), "little")
        if tag == b"\xfe\xff\xdd\xe0":
            return Pixels.COMPLETE
        if tag != b"\xfe\xff\x00\xe0":
            break
        # The first item is the table of offsets.
        if number == 1 and declared is not None:
            found = codestream.kind(file.read(min(length, _STREAM_BYTES)))
            if found not in {declared, None}:
                return Pixels.MISLABELLED
        at, number = at + 8 + length, number + 1
    return Pixels.CUT
