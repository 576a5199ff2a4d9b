"""What a compressed frame says of itself: how it is encoded, and how large its image is. Pure.

A transfer syntax may be wrong, and decoders allocate what the code stream says, whatever the DICOM
header says: a few changed bytes can ask for gigabytes.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from pydicom import uid

Kind: TypeAlias = Literal["native", "RLE", "JPEG", "JPEG lossless", "JPEG-LS", "JPEG 2000"]

NATIVE: Final = "native"
# PS3.5 A.4; High-Throughput JPEG 2000 begins as JPEG 2000 does, and the same decoder reads it.
_DECLARED: Final[dict[str, Kind]] = {
    uid.ImplicitVRLittleEndian: "native",
    uid.ExplicitVRLittleEndian: "native",
    uid.ExplicitVRBigEndian: "native",
    uid.RLELossless: "RLE",
    uid.JPEGBaseline8Bit: "JPEG",
    uid.JPEGExtended12Bit: "JPEG",
    uid.JPEGLossless: "JPEG lossless",
    uid.JPEGLosslessSV1: "JPEG lossless",
    uid.JPEGLSLossless: "JPEG-LS",
    uid.JPEGLSNearLossless: "JPEG-LS",
    uid.JPEG2000Lossless: "JPEG 2000",
    uid.JPEG2000: "JPEG 2000",
    uid.HTJ2KLossless: "JPEG 2000",
    uid.HTJ2KLosslessRPCL: "JPEG 2000",
    uid.HTJ2K: "JPEG 2000",
}
_JPEG_START: Final = b"\xff\xd8"
_JPEG_2000_START: Final = b"\xff\x4f\xff\x51"
_JP2_BOX: Final = b"\x00\x00\x00\x0cjP  "  # a whole JP2 file, which some programs embed
_RLE_HEADER_BYTES: Final = 64
# ITU T.81 B.1.1.3: start of frame, lossless and lossy (C4, C8, CC are others); T.87: JPEG-LS.
_START_OF_FRAME: Final = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
_LOSSLESS_FRAMES: Final = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
_JPEG_LS_FRAME: Final = 0xF7
_BARE: Final = frozenset({0x01, *range(0xD0, 0xD9)})


def declared_kind(syntax: str) -> Kind | None:
    """How pixels of a transfer syntax are encoded, ``None`` for one that we do not decode."""
    return _DECLARED.get(syntax)


def kind(stream: bytes) -> Kind | None:
    """How a fragment is encoded by its own first bytes, ``None`` where they do not say."""
    if stream.startswith((_JPEG_2000_START, _JP2_BOX)):
        return "JPEG 2000"
    if stream.startswith(_JPEG_START):
        return _kind_of_jpeg(stream)
    return "RLE" if _is_rle(stream) else None


def _kind_of_jpeg(stream: bytes) -> Kind | None:
    at = _frame_start(stream)
    if at is None:
        return None
    marker = stream[at + 1]
    if marker == _JPEG_LS_FRAME:
        return "JPEG-LS"
    return "JPEG lossless" if marker in _LOSSLESS_FRAMES else "JPEG"


def _is_rle(stream: bytes) -> bool:
    """PS3.5 G.5: the number of segments, and where each begins: the first behind the header."""
    if len(stream) < _RLE_HEADER_BYTES:
        return False
    count, first, *others = (
        int.from_bytes(stream[at : at + 4], "little") for at in range(0, _RLE_HEADER_BYTES, 4)
    )
    return 1 <= count <= 15 and first == _RLE_HEADER_BYTES and not any(others[count - 1 :])


def declared_size(stream: bytes) -> tuple[int, int] | None:
    """Rows and columns by the stream's own header, ``None`` where it has none that we know."""
    if stream.startswith(_JPEG_2000_START):
        return _of_jpeg_2000(stream)
    at = _frame_start(stream) if stream.startswith(_JPEG_START) else None
    if at is None:
        return None
    rows, columns = (int.from_bytes(stream[at + n : at + n + 2], "big") for n in (5, 7))
    return rows, columns


def _of_jpeg_2000(stream: bytes) -> tuple[int, int] | None:
    """ITU T.800 A.5.1: the grid's size and where the image begins in it."""
    if len(stream) < 24:
        return None
    width, height, left, top = (
        int.from_bytes(stream[at : at + 4], "big") for at in range(8, 24, 4)
    )
    return height - top, width - left


def _frame_start(stream: bytes) -> int | None:
    """Steps over marker segments to the one that starts the frame."""
    at = 2
    while at + 9 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker == 0xFF or marker in _BARE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in _START_OF_FRAME:
            return at
        at += 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    return None
