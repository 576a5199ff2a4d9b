"""What a file is that is neither DICOM nor a readable NIfTI file, told by its first bytes.

A folder of images also holds what systems and downloads leave there: attributes of macOS, pointers
of Git LFS, error pages saved under the name of an image. Their owner has to know which it is.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Final, NamedTuple

from nestseg_prep.dicom.findings import Code, Finding
from nestseg_prep.volume_files import FORMATS, SUFFIXES

APPLE_DOUBLE: Final = "AppleDouble: attributes of another file, kept by macOS"
_LFS: Final = "Git LFS pointer: the content was not fetched"
_ANNEX: Final = "git-annex pointer: the content was not fetched"
_ZEROS: Final = "nothing but zeros"
EMPTY: Final = "an empty file"
LOST_CONTENT: Final = frozenset({_LFS, _ANNEX, _ZEROS, EMPTY})
"""Details of files that stand for content which is not there."""

_HEAD_BYTES: Final = 4096
_GZIP_MAGIC: Final = b"\x1f\x8b"
_IMAGE_SUFFIXES: Final = (".nii", ".nii.gz", ".dcm", ".dicom", ".ima", ".dcm.gz", *SUFFIXES)


class _Magic(NamedTuple):
    """A format by a pattern at the start of the file, and whether it is one of volumes."""

    pattern: re.Pattern[bytes]
    name: str
    volume: bool = False


def _magic(pattern: bytes, name: str, *, volume: bool = False) -> _Magic:
    return _Magic(re.compile(pattern, re.DOTALL | re.IGNORECASE), name, volume)


# The first that fits; text formats last, since they are told by little.
_MAGICS: Final = (
    _magic(rb"\x00\x05\x16[\x00\x07]", APPLE_DOUBLE),
    _magic(rb"version https://git-lfs\.github\.com/spec/", _LFS),
    _magic(rb"[^\n]{0,200}/annex/objects/", _ANNEX),
    _magic(rb"NRRD000\d", "NRRD", volume=True),
    _magic(rb"(comment[^\n]*\n)?(objecttype|ndims)\s*=", "MetaImage", volume=True),
    # Version 1; after seven numbers the flag that says whether the orientation is given.
    _magic(rb"\x00\x00\x00\x01.{16}\x00\x00\x00[\x00-\x0a].{4}\x00[\x00\x01]", "MGH", volume=True),
    _magic(rb"# vtk datafile", "VTK", volume=True),
    _magic(rb".{252}(\x2a\xe3\x89\xb8|\xef\xff\xe9\xb0)", "GIPL", volume=True),
    _magic(rb"\x89HDF\r\n\x1a\n", "HDF5 (MINC 2 among others)", volume=True),
    _magic(rb"CDF[\x01\x02]", "NetCDF (MINC 1 among others)", volume=True),
    _magic(rb"\x93NUMPY", "NumPy", volume=True),
    _magic(rb"MATRIX7", "ECAT", volume=True),
    _magic(rb"\s*!?INTERFILE", "Interfile", volume=True),
    _magic(rb"# === DATA DESCRIPTION FILE", "Philips PAR/REC", volume=True),
    _magic(rb"\s*type\s*=\s*(string|integer|float)-attribute", "AFNI", volume=True),
    _magic(rb"MATLAB 5\.0 MAT-file", "MATLAB"),
    _magic(rb"\x1f\x8b", "gzip within gzip: unpack it once"),
    _magic(rb"PK\x03\x04", "ZIP archive"),
    _magic(rb"%PDF-", "PDF document"),
    _magic(rb"\x89PNG\r\n\x1a\n", "PNG picture"),
    _magic(rb"\xff\xd8\xff", "JPEG picture"),
    _magic(rb"GIF8[79]a", "GIF picture"),
    _magic(rb"II\*\x00|MM\x00\*", "TIFF picture"),
    _magic(rb"\x00+\Z", _ZEROS),
    _magic(rb"\Z", EMPTY),
    _magic(rb"(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)?<(!doctype html|html)", "HTML page"),
    _magic(rb"(\xef\xbb\xbf)?\s*<(\?xml|[a-z][\w:.-]*[\s>])", "XML text"),
    _magic(rb"(\xef\xbb\xbf)?\s*(\{\s*[\"}]|\[\s*[\[{\"\d\]])", "JSON text"),
)


def read_head(path: Path) -> bytes:
    """The first bytes of a file, unpacked where it is gzip-compressed.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head.startswith(_GZIP_MAGIC):
        return head
    try:
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(head, _HEAD_BYTES)
    except zlib.error:
        return head


def is_nifti(head: bytes) -> bool:
    """Whether a file begins as a NIfTI file that holds its own voxels (NIfTI-1 or 2)."""
    return head[344:348] == b"n+1\0" or head[4:8] == b"n+2\0"


def is_volume(head: bytes) -> bool:
    """Whether a file begins as NRRD, MetaImage or MGH."""
    found = next((one for one in _MAGICS if one.pattern.match(head)), None)
    return found is not None and found.name in FORMATS


def finding(head: bytes, name: str) -> Finding | None:
    """The finding for a file that is not an image we read, ``None`` where its format is unknown.

    Args:
        head: from :func:`read_head`.
        name: of the file: what is called as an image should hold one.
    """
    found = next((one for one in _MAGICS if one.pattern.match(head)), None)
    if found is None:
        return None
    if found.name == APPLE_DOUBLE:
        return Finding(Code.NOT_AN_IMAGE_FILE, found.name)
    if name.lower().endswith(_IMAGE_SUFFIXES):
        return Finding(Code.WRONG_CONTENT, found.name)
    return Finding(Code.OTHER_FORMAT if found.volume else Code.NOT_AN_IMAGE_FILE, found.name)
