"""The image size that a compressed frame declares for itself. Pure.

Decoders allocate what the code stream says, whatever the DICOM header says: a few changed bytes
can ask for gigabytes.
"""

from __future__ import annotations

from typing import Final

_JPEG_START: Final = b"\xff\xd8"
_JPEG_2000_START: Final = b"\xff\x4f\xff\x51"
# ITU T.81 B.1.1.3: start of frame, lossless and lossy (C4, C8, CC are others); T.87: JPEG-LS.
_START_OF_FRAME: Final = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
_BARE: Final = frozenset({0x01, *range(0xD0, 0xD9)})


def declared_size(stream: bytes) -> tuple[int, int] | None:
    """Rows and columns by the stream's own header, ``None`` where it has none that we know."""
    if stream.startswith(_JPEG_2000_START):
        return _of_jpeg_2000(stream)
    return _of_jpeg(stream) if stream.startswith(_JPEG_START) else None


def _of_jpeg_2000(stream: bytes) -> tuple[int, int] | None:
    """ITU T.800 A.5.1: the grid's size and where the image begins in it."""
    if len(stream) < 24:
        return None
    width, height, left, top = (
        int.from_bytes(stream[at : at + 4], "big") for at in range(8, 24, 4)
    )
    return height - top, width - left


def _of_jpeg(stream: bytes) -> tuple[int, int] | None:
    """Steps over marker segments to the start of the frame."""
    at = 2
    while at + 9 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker == 0xFF or marker in _BARE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in _START_OF_FRAME:
            rows = int.from_bytes(stream[at + 5 : at + 7], "big")
            return rows, int.from_bytes(stream[at + 7 : at + 9], "big")
        at += 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    return None
