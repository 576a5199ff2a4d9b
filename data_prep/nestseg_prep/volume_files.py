"""NRRD, MetaImage and MGH files → volumes: formats whose headers give the whole geometry.

Headers are read here and not by ITK, which takes a file that names no place for one at the origin,
a type of space for another, and slopes for nothing. Voxels are taken only if a file holds exactly
as many as it declares, to the last checksum.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn, TypeAlias, cast

import nibabel as nib
import numpy as np
import numpy.typing as npt
from isal import igzip, isal_zlib

from nestseg_prep import affine as affines
from nestseg_prep.errors import InputError
from nestseg_prep.fill import finite
from nestseg_prep.nifti_header import VOXEL_BYTES_LIMIT, ColourError, NiftiHeader, upright
from nestseg_prep.volume import Volume

SUFFIXES: Final = (".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh")
FORMATS: Final = frozenset({"NRRD", "MetaImage", "MGH"})
"""As ``nestseg_prep.dicom.formats`` calls them."""

_LINES: Final = 10_000
_LINE_BYTES: Final = 2**16
_RATIO_LIMIT: Final = 1100  # deflate cannot shrink anything by more
_CHUNK: Final = 2**20
_BROKEN_STREAM: Final = cast("type[Exception]", isal_zlib.error)  # its stubs say: an instance
_NRRD_TYPES: Final = {
    "i1": "signed char|int8|int8_t",
    "u1": "uchar|unsigned char|uint8|uint8_t",
    "i2": "short|short int|signed short|signed short int|int16|int16_t",
    "u2": "ushort|unsigned short|unsigned short int|uint16|uint16_t",
    "i4": "int|signed int|int32|int32_t",
    "u4": "uint|unsigned int|uint32|uint32_t",
    "i8": "longlong|long long|long long int|signed long long|int64|int64_t",
    "u8": "ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t",
    "f4": "float",
    "f8": "double",
}
_META_TYPES: Final = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
# What turns coordinates of a space into RAS.
_SPACES: Final = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (-1.0, -1.0, 1.0)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (1.0, 1.0, 1.0)),
    **dict.fromkeys(("left-anterior-superior", "las"), (-1.0, 1.0, 1.0)),
}
_COLOURS: Final = {"rgb-color": "RGB", "3-color": "RGB", "rgba-color": "RGBA", "4-color": "RGBA"}

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True)
class VolumeFile:
    """What a file declares.

    Attributes:
        header: shape and place.
        data: the file that holds the voxels; often the same one.
    """

    header: NiftiHeader
    data: Path


@dataclass(frozen=True)
class _Declared:
    """Place and storage of the voxels.

    Attributes:
        shape: voxels along each axis.
        affine: voxel → RAS mm.
        dtype: of the stored values.
        data: the file that holds them.
        offset: their first byte.
        packed: ``""``, ``"gzip"`` or ``"zlib"``.
        result: whether 3D Slicer says that it is a segmentation.
    """

    shape: tuple[int, ...]
    affine: affines.Affine
    dtype: np.dtype[Any]
    data: Path
    offset: int = 0
    packed: str = ""
    result: bool = False


def read_volume_header(path: Path) -> VolumeFile:
    """Read and check the header of an NRRD, NHDR, MHA, MHD, MGH or MGZ file.

    Raises:
        InputError: the file is damaged, or we would have to guess what its header means.
        OSError: a file cannot be opened.
    """
    declared = _declared(path)
    if declared is None:
        return VolumeFile(_mgh(path, lambda _: None)[0], path)
    return VolumeFile(_checked(declared, path), declared.data)


def read_volume_file(path: Path) -> Volume:
    """Read one volume; up to 0.1 % of voxels that are not finite become the lowest finite value.

    Raises:
        InputError: the file is damaged to its last byte, holds more than one volume, colour or
            complex voxels, or its geometry cannot be trusted.
        OSError: a file cannot be opened.
    """
    declared = _declared(path)
    if declared is None:
        header, array = _mgh(path, lambda image: np.asarray(image.dataobj))
    else:
        header, array = _checked(declared, path), _voxels(declared, path)
    native = array.reshape(header.shape, order="F").astype(array.dtype.newbyteorder("="))
    try:
        return Volume(finite(native), header.affine)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from error


def _declared(path: Path) -> _Declared | None:
    """What an NRRD or MetaImage file declares; ``None`` for any other file."""
    with path.open("rb") as file:
        head = file.read(256)
        file.seek(0)
        if head.startswith(b"NRRD"):
            lines, offset = _lines(file, path, lambda line: not line)
            return _nrrd(lines[1:], offset, path)
        if re.match(rb"(comment|objecttype|ndims)\b", head, re.IGNORECASE):
            lines, offset = _lines(file, path, lambda line: line.startswith("ElementDataFile"))
            return _meta_image(lines, offset, path)
    return None


def _lines(file: BinaryIO, path: Path, last: Callable[[str], bool]) -> tuple[list[str], int]:
    """The lines of a header up to the last one, and where the next byte is."""
    lines: list[str] = []
    while raw := file.readline(_LINE_BYTES):
        lines.append(raw.decode("utf-8", "replace").strip())
        if last(lines[-1]):
            break
        if len(lines) > _LINES:
            _refuse(path, "its header does not end", "copy it again")
    return lines, file.tell()


def _nrrd(lines: list[str], offset: int, path: Path) -> _Declared:
    """The fields of http://teem.sourceforge.net/nrrd/format.html that place voxels."""
    pairs = (line.partition(": ") for line in lines if not line.startswith("#"))
    fields = {key.lower().replace(" ", ""): value.strip() for key, colon, value in pairs if colon}
    for kind in fields.get("kinds", "").lower().split():
        if colour := _COLOURS.get(kind):
            wrong = (
                f"{path.name}: voxels in colour ({colour}); convert it to one grey value a voxel"
            )
            raise ColourError(wrong, colour)
    shape = tuple(int(n) for n in _numbers(fields, "sizes", path))
    if len(shape) != 3:
        _refuse(path, f"{len(shape)} axes {shape}, not one volume", "extract one volume")
    said = fields.get("type", "unknown").lower()
    dtype = next((code for code, names in _NRRD_TYPES.items() if said in names.split("|")), None)
    if dtype is None:
        _refuse(path, f"voxels of type {said}", "convert to integers or floats")
    order = {"little": "<", "big": ">"}.get(fields.get("endian", "").lower())
    if order is None and dtype[1] != "1":
        _refuse(path, "its header does not say in which order bytes are stored", "write it again")
    encoding = fields.get("encoding", "unknown").lower()
    if encoding not in ("raw", "gzip", "gz"):
        _refuse(path, f"its voxels are stored as {encoding}", "write it as raw or gzip")
    for skip in ("byteskip", "lineskip"):
        if fields.get(skip, "0") != "0":
            _refuse(path, f"its header skips data ({skip})", "write it again")
    named = fields.get("datafile")
    return _Declared(
        shape,
        _nrrd_affine(fields, path),
        np.dtype((order or "") + dtype),
        _beside(path, named) if named else path,
        0 if named else offset,
        "" if encoding == "raw" else "gzip",
        any(line.startswith("Segment0_") for line in lines),
    )


def _nrrd_affine(fields: Mapping[str, str], path: Path) -> affines.Affine:
    space = fields.get("space", "").lower()
    if space not in _SPACES:
        wrong = f"no patient coordinates (its space is {space or 'not given'})"
        _refuse(path, wrong, "write it with the space left-posterior-superior if you know it")
    units = set(re.findall(r'"([^"]*)"', fields.get("spaceunits", "")))
    if units - {"mm", ""}:
        _refuse(path, f"its unit is {', '.join(sorted(units))}", "convert it to mm")
    vectors = re.findall(r"\(([^)]*)\)", fields.get("spacedirections", ""))
    origin = re.findall(r"\(([^)]*)\)", fields.get("spaceorigin", ""))
    columns = [_floats(vector.split(","), "space directions", path) for vector in vectors + origin]
    if [len(column) for column in columns] != [3, 3, 3, 3]:
        _refuse(path, "no whole geometry (space directions, space origin)", "write it again")
    affine = np.eye(4)
    affine[:3] = np.array(columns).T * np.reshape(_SPACES[space], (3, 1))
    return affine


def _meta_image(lines: list[str], offset: int, path: Path) -> _Declared:
    """The fields of MetaIO's MetaImage; its world is LPS, as ITK reads it."""
    pairs = (line.partition("=") for line in lines)
    fields = {key.strip().lower(): value.strip() for key, equals, value in pairs if equals}
    shape = tuple(int(n) for n in _numbers(fields, "dimsize", path))
    if len(shape) != 3:
        _refuse(path, f"{len(shape)} axes {shape}, not one volume", "extract one volume")
    if (channels := fields.get("elementnumberofchannels", "1")) != "1":
        _refuse(path, f"{channels} values a voxel", "extract one volume")
    said = fields.get("elementtype", "unknown")
    if said not in _META_TYPES:
        _refuse(path, f"voxels of type {said}", "convert to integers or floats")
    if _true(fields, "binarydata", default="true") is False:
        _refuse(path, "its voxels are stored as text", "write it in binary")
    if fields.get("headersize", "0") != "0":
        _refuse(path, "its header skips data (HeaderSize)", "write it again")
    for name, neutral in (("slope", 1.0), ("offset", 0.0)):
        field = f"elementtointensityfunction{name}"
        if field in fields and _numbers(fields, field, path) != [neutral]:
            _refuse(path, f"its values are to be scaled ({field})", "write the true values")
    if fields.get("distanceunits", "mm").lower() not in ("mm", "?", ""):
        _refuse(path, f"its unit is {fields['distanceunits']}", "convert it to mm")
    big = _true(fields, "binarydatabyteordermsb") or _true(fields, "elementbyteordermsb")
    named = fields.get("elementdatafile", "")
    if not named:
        _refuse(path, "its header ends early", "copy it again")
    attached = named.upper() == "LOCAL"
    return _Declared(
        shape,
        _meta_affine(fields, path),
        np.dtype((">" if big else "<") + _META_TYPES[said]),
        path if attached else _beside(path, named),
        offset if attached else 0,
        "zlib" if _true(fields, "compresseddata") else "",
    )


def _meta_affine(fields: Mapping[str, str], path: Path) -> affines.Affine:
    def first(*names: str, count: int) -> list[float]:
        name = next((name for name in names if name in fields), names[0])
        numbers = _numbers(fields, name, path) if name in fields else []
        if len(numbers) != count:
            _refuse(path, f"no whole geometry ({name})", "write it again from its source")
        return numbers

    # A row of the matrix is the direction of an axis of the image.
    rows = np.reshape(first("transformmatrix", "rotation", "orientation", count=9), (3, 3))
    affine = np.eye(4)
    affine[:3, :3] = rows.T * first("elementspacing", "elementsize", count=3)
    affine[:3, 3] = first("offset", "position", "origin", count=3)
    return affines.swap_lps_ras(affine)


def _mgh(path: Path, take: Callable[[Any], Any]) -> tuple[NiftiHeader, Any]:
    """The header of an MGH file, and what ``take`` takes from it; read to its last checksum."""
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream: Any = igzip.IGzipFile(fileobj=raw) if packed else raw
        try:
            # nibabel fills in a place where this flag says that there is none.
            placed = stream.read(30)[28:] == b"\0\1"
            stream.seek(0)
            image: Any = nib.MGHImage.from_stream(stream)
            if not placed:
                wrong = "no patient coordinates (goodRASFlag is 0)"
                _refuse(path, wrong, "write it with its orientation")
            header = _checked(_mgh_declared(image, path, packed=packed), path)
            taken = take(image)
            while taken is not None and stream.read(_CHUNK):
                pass
        except InputError:
            raise
        except (EOFError, OSError, ValueError, nib.filebasedimages.ImageFileError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            _refuse(path, f"not a whole MGH file ({type(error).__name__})", "copy it again")
        except _BROKEN_STREAM as error:
            _refuse(path, f"not a whole MGH file ({error})", "copy it again")
    return header, taken


def _mgh_declared(image: Any, path: Path, *, packed: bool) -> _Declared:
    header = image.header
    shape = tuple(int(n) for n in header.get_data_shape())
    if len(shape) != 3:
        _refuse(path, f"{len(shape)} axes {shape}, not one volume", "extract one volume")
    affine = np.asarray(header.get_affine(), dtype=np.float64)
    offset = int(header.get_data_offset())
    dtype = np.dtype(header.get_data_dtype())
    return _Declared(shape, affine, dtype, path, offset, "gzip" if packed else "")


def _checked(declared: _Declared, path: Path) -> NiftiHeader:
    """Refuse what cannot be true, in the order in which it would do harm."""
    shape = declared.shape[0], declared.shape[1], declared.shape[2]
    if min(shape) < 1:
        _refuse(path, f"impossible shape {shape}", "copy or convert it again")
    wanted = math.prod(shape) * declared.dtype.itemsize
    if wanted > VOXEL_BYTES_LIMIT:
        _refuse(path, f"header declares {wanted / 2**30:.0f} GiB", "check or crop the image")
    if not declared.data.is_file():
        _refuse(path, f"its data file {declared.data.name} is not beside it", "copy both")
    there = declared.data.stat().st_size - declared.offset
    if wanted > there * (_RATIO_LIMIT if declared.packed else 1):
        _refuse(path, f"cut: {there} bytes cannot hold the {wanted} declared", "copy it again")
    affine = declared.affine
    if not np.isfinite(affine).all() or affines.is_singular(affine):
        _refuse(path, "its geometry is not an invertible transform", "set it again")
    affine, straightened = upright(affine, shape, path)
    return NiftiHeader(shape, affine, straightened, result=declared.result)


def _voxels(declared: _Declared, path: Path) -> Array:
    """The stored values of a file that was checked, whole or not at all."""
    wanted = math.prod(declared.shape) * declared.dtype.itemsize
    with declared.data.open("rb") as file:
        file.seek(declared.offset)
        try:
            content = _unpacked(file, declared.packed, wanted)
        except (EOFError, OSError, _BROKEN_STREAM) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            _refuse(path, f"its voxels are damaged ({type(error).__name__})", "copy it again")
    if len(content) != wanted:
        relation = "more than" if len(content) > wanted else f"{len(content)} of"
        _refuse(path, f"it holds {relation} the {wanted} bytes declared", "copy it again")
    return np.frombuffer(content, declared.dtype)


def _unpacked(file: BinaryIO, packed: str, wanted: int) -> bytes:
    """Up to one byte more than wanted, and every checksum met."""
    if not packed:
        return file.read(wanted + 1)
    if packed == "gzip":
        with igzip.IGzipFile(fileobj=file) as stream:
            return bytes(stream.read(wanted + 1))
    unpacker = isal_zlib.decompressobj()
    content = bytes(unpacker.decompress(file.read(), wanted + 1))
    if not unpacker.eof and len(content) <= wanted:
        content += bytes(unpacker.flush())
        if not unpacker.eof:
            raise EOFError
    return content


def _beside(path: Path, named: str) -> Path:
    """The data file of a header; never outside of its folder."""
    if re.match(r"LIST\b", named) or "%" in named:
        _refuse(path, "its voxels lie in several files", "write it as one file")
    if Path(named).name != named:
        _refuse(path, "its data file lies in another folder", "put both into one folder")
    return path.parent / named


def _true(fields: Mapping[str, str], name: str, default: str = "false") -> bool:
    return fields.get(name, default).lower() in ("true", "1", "yes", "t", "y")


def _numbers(fields: Mapping[str, str], name: str, path: Path) -> list[float]:
    if name not in fields:
        _refuse(path, f"its header lacks {name}", "copy or convert it again")
    return _floats(fields[name].split(), name, path)


def _floats(words: list[str], name: str, path: Path) -> list[float]:
    try:
        return [float(word) for word in words]
    except ValueError:
        _refuse(path, f"its header's {name} is not a list of numbers", "copy or convert it again")


def _refuse(path: Path, wrong: str, remedy: str) -> NoReturn:
    raise InputError(f"{path.name}: {wrong}; {remedy}")
