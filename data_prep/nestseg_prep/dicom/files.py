"""One file on disk → one pydicom data set, with limits on what a hostile file may cost."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from nestseg_prep.errors import FileError

# A 778 kB deflated file can unpack to 1.6 GB. No honest slice or enhanced object packed in this
# rare way comes near the limit.
UNPACKED_BYTES_LIMIT: Final = 512 * 2**20
_HEAD_BYTES: Final = 1024
_CHUNK: Final = 2**20
_GZIP_MAGIC: Final = b"\x1f\x8b"
# The first element of a data set written without preamble lies in one of these groups.
_FIRST_GROUPS: Final = (b"\x02\x00", b"\x08\x00", b"\x00\x08")


class NotDicomError(FileError):
    """The bytes are not DICOM."""


class DamagedFileError(FileError):
    """The bytes are DICOM, but cut, broken or larger than is safe."""


def was_gzipped(file: BinaryIO) -> bool:
    """Whether ``open_plain`` unpacked the file in memory."""
    return isinstance(file, io.BytesIO)


def open_plain(path: Path) -> BinaryIO:
    """Opens a DICOM file, unpacked in memory where it is gzip-compressed (``.dcm.gz``).

    Raises:
        NotDicomError: by its content the file is not DICOM.
        DamagedFileError: its compressed stream is broken or unpacks beyond the limit.
        OSError: the file cannot be opened.
    """
    file = path.open("rb")
    try:
        head = file.read(_HEAD_BYTES)
        file.seek(0)
        if head.startswith(_GZIP_MAGIC):
            with file:
                return io.BytesIO(_gunzip(file))
        _check_head(head)
        if DeflatedExplicitVRLittleEndian.encode() in head:
            _check_deflated(file)
            file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def read_dataset(file: BinaryIO, tags: Sequence[BaseTag] | None = None) -> FileDataset:
    """Parses a data set; without its pixels where ``tags`` names the elements that are wanted.

    On return with ``tags`` the file stands at the pixel data element, if there is one.

    Raises:
        DamagedFileError: the file cannot be parsed.
    """
    try:
        dataset = pydicom.dcmread(
            file,
            force=True,
            stop_before_pixels=tags is not None,
            specific_tags=list(tags) if tags is not None else None,
        )
    except OSError:
        raise
    # A broken file can make the parser fail in any way; whichever it is, the file is damaged.
    except Exception as error:
        msg = type(error).__name__
        raise DamagedFileError(msg) from error
    _note_true_encoding(dataset)
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = _guessed_syntax(dataset)
    return dataset


def is_deflated(dataset: FileDataset) -> bool:
    """Whether the whole data set was deflated, so that positions in its file mean nothing."""
    return bool(dataset.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian)


def _note_true_encoding(dataset: FileDataset) -> None:
    """Notes how the elements are really encoded where the file meta information is wrong.

    pydicom reads implicit VR in a file that declares explicit VR, and the reverse, but goes on to
    say what was declared.
    """
    implicit, little = dataset.original_encoding
    elements: Iterator[Any] = map(dataset.get_item, dataset.keys())  # annotated as converted
    first = next((one for one in elements if isinstance(one, RawDataElement)), None)
    if first is not None and first.is_implicit_VR != implicit:
        dataset.set_original_encoding(first.is_implicit_VR, little)


def _guessed_syntax(dataset: FileDataset) -> UID:
    """The transfer syntax that a data set without file meta information was parsed with."""
    implicit, little = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def is_dicom(head: bytes) -> bool:
    """Whether a file begins as DICOM does, with a preamble and the letters behind it."""
    return head[128:132] == b"DICM"


def _check_head(head: bytes) -> None:
    if is_dicom(head):
        return
    # Without preamble: group, element, then either two capitals (explicit) or a sane length.
    if len(head) < 16 or head[:2] not in _FIRST_GROUPS:
        raise NotDicomError
    value_representation = head[4:6]
    explicit = value_representation.isalpha() and value_representation.isupper()
    if not explicit and int.from_bytes(head[4:8], "little") > 256:
        raise NotDicomError


def _gunzip(file: BinaryIO) -> bytes:
    try:
        with gzip.GzipFile(fileobj=file) as stream:
            # Look before unpacking gigabytes of somebody's backup.
            head = stream.read(_HEAD_BYTES)
            _check_head(head)
            content = head + stream.read(UNPACKED_BYTES_LIMIT)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        msg = "broken gzip stream"
        raise DamagedFileError(msg) from error
    if len(content) > UNPACKED_BYTES_LIMIT:
        msg = "unpacks beyond the limit"
        raise DamagedFileError(msg)
    return content


def data_set_start(file: BinaryIO) -> int:
    """Position at which the data set begins, behind preamble and file meta information.

    Raises:
        DamagedFileError: the file meta information cannot be parsed.
    """
    return _declared(file)[1]


def _declared(file: BinaryIO) -> tuple[str, int]:
    """Transfer syntax by the file meta information, and the position behind it."""
    try:
        file.seek(0)
        read_preamble(file, force=False)
        syntax = str(_read_file_meta_info(file).get("TransferSyntaxUID", ""))
    # As in read_dataset: whichever way the parser fails, the file is damaged.
    except Exception as error:
        msg = "broken file meta information"
        raise DamagedFileError(msg) from error
    return syntax, file.tell()


def is_mislabelled(path: Path) -> bool:
    """Whether a data set has another byte order than its transfer syntax says, or another packing.

    Asked of files that cannot be parsed: it tells a wrong label from damage.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            syntax, at = _declared(file)
            file.seek(at)
            start = file.read(_HEAD_BYTES)
    except DamagedFileError:
        return False
    try:
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(start, 2)
    except zlib.error:
        inflated = b""
    # A data set begins with a group of a low even number, such as 0008.
    looks = {
        "deflated": _is_low_group(inflated[:2]),
        "big": _is_low_group(start[1::-1]),
        "little": _is_low_group(start[:2]),
    }
    special = {str(DeflatedExplicitVRLittleEndian): "deflated", str(ExplicitVRBigEndian): "big"}
    declared = special.get(syntax, "little")
    return any(looks.values()) and not looks[declared]


def _is_low_group(little: bytes) -> bool:
    number = int.from_bytes(little, "little")
    return len(little) == 2 and 0 < number <= 0x50 and number % 2 == 0


def _check_deflated(file: BinaryIO) -> None:
    """Unpacks a deflated data set to nowhere, to learn its size before pydicom unpacks it."""
    file.seek(data_set_start(file))
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    total = 0
    try:
        while chunk := (inflater.unconsumed_tail or file.read(_CHUNK)):
            total += len(inflater.decompress(chunk, _CHUNK))
            if total > UNPACKED_BYTES_LIMIT:
                msg = "unpacks beyond the limit"
                raise DamagedFileError(msg)
    except zlib.error as error:
        msg = "broken deflate stream"
        raise DamagedFileError(msg) from error
