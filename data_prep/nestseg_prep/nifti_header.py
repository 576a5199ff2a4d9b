"""The header of a NIfTI file: what is in it, and whether its geometry can be trusted.

Nothing is allocated for voxels before the header was found plausible. Source for the fields:
nifti1.h of the NIfTI-1.1 data format.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn, TypeAlias, cast

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from nestseg_prep import affine as affines
from nestseg_prep.errors import InputError

SUFFIXES: Final = (".nii", ".nii.gz")
VOXEL_BYTES_LIMIT: Final = 16 * 2**30
# Deflate cannot shrink anything by more than about 1030:1.
_GZIP_RATIO_LIMIT: Final = 1100
_BROKEN_STREAM: Final = cast("type[Exception]", isal_zlib.error)  # its stubs say: an instance
_QFORM_SFORM_TOLERANCE: Final = 0.1  # voxels
_PIXDIM_TOLERANCE: Final = 0.01
_SHEAR_LIMIT: Final = 1e-3  # a cosine
_SHEAR_OF_ROUNDING: Final = 1e-5
_SPATIAL_UNITS: Final = 0x07
_INTENT_LABEL: Final = 1002  # NIFTI_INTENT_LABEL
LABELS: Final = "nestseg label map"
"""Mark of a mask, in the header's field for a description."""
MAP: Final = "nestseg map"
"""Mark of a probability or uncertainty map."""
_COLOURS: Final = (("R", "G", "B"), ("R", "G", "B", "A"))
_UNKNOWN_UNIT: Final = 0
_UNITS: Final = {_UNKNOWN_UNIT: "mm", 1: "metres", 2: "mm", 3: "microns"}
_MM: Final = {"mm": 1.0, "metres": 1000.0, "microns": 0.001}
# What no scanner has, in mm: the unit in the header must be wrong.
_LARGEST_VOXEL: Final = 100.0
_SMALLEST_VOXEL_WITHOUT_UNIT: Final = 0.01

Image: TypeAlias = Any  # nib.Nifti1Image or 2: nibabel annotates only part of itself


@dataclass(frozen=True)
class NiftiHeader:
    """What a NIfTI file declares, or another file of a volume without tags.

    Attributes:
        shape: voxels along ``(i, j, k)``; axes of length one behind the third are dropped.
        affine: ``(4, 4)``, voxel → RAS mm: the sform, or the qform where there is no sform.
        straightened: whether its axes were slightly askew and made to stand at right angles.
        result: whether it is a label map or another result, by its intent or by a mark of ours.
        unit: in which the file gives its geometry: ``"mm"``, ``"metres"`` or ``"microns"``. The
            affine is in mm in any case.
    """

    shape: tuple[int, int, int]
    affine: affines.Affine
    straightened: bool = False
    unit: str = "mm"
    result: bool = False


class ColourError(InputError):
    """The voxels are colours.

    Attributes:
        kind: ``"RGB"`` or ``"RGBA"``.
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


def read_header(path: Path) -> NiftiHeader:
    """Reads and checks the header of a ``.nii`` or ``.nii.gz`` file.

    Raises:
        InputError: the file is damaged, or we would have to guess what its header means.
        OSError: the file cannot be opened.
    """
    with open_image(path) as (_, image):
        return replace(check_header(image, path), result=_is_result(image))


def mark_result(image: Image, mark: str) -> None:
    """Says in a header that an image is a result (``LABELS`` or ``MAP``)."""
    image.header["descrip"] = mark
    if mark == LABELS:
        image.header["intent_code"] = _INTENT_LABEL


def _is_result(image: Image) -> bool:
    mark = bytes(image.header["descrip"].item()).rstrip(b"\0").decode("ascii", "replace")
    return mark in {LABELS, MAP} or int(image.header["intent_code"]) == _INTENT_LABEL


@contextmanager
def open_image(path: Path) -> Iterator[tuple[BinaryIO, Image]]:
    """Opens a NIfTI file as an unpacked stream and an image whose voxels are not read yet.

    What goes wrong inside the context is reported as an error of the file; what the system cannot
    read is the caller's: no right to read, no such file, a broken disk.
    """
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream = cast("BinaryIO", igzip.IGzipFile(fileobj=raw)) if packed else raw
        try:
            image_class = _image_class(stream, path)
            _check_scaling(stream, image_class, path)
            yield stream, image_class.from_stream(stream)
        except InputError:
            raise
        except (
            ImageFileError,
            HeaderDataError,
            WrapStructError,
            EOFError,
            OSError,
            ValueError,
            OverflowError,
            _BROKEN_STREAM,
        ) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise InputError(f"{path.name}: {_damage(error)}") from error


def _damage(error: Exception) -> str:
    """What is wrong with a file that cannot be read to its end, and what to do."""
    # The checksum of what stands before has been verified by then.
    if isinstance(error, gzip.BadGzipFile) and "Not a gzipped file" in str(error):
        return "other bytes follow the compressed image; unpack it and compress it again"
    return f"not a whole NIfTI file ({type(error).__name__}); copy it again"


def check_header(image: Image, path: Path) -> NiftiHeader:
    """Checks what an image declares, in the order in which it would do harm."""
    shape = _checked_shape(image, path)
    _check_bytes(image, path)
    unit = _unit(image, path)
    affine = _checked_affine(image, shape, path)
    _check_spacing(image, affine, path)
    affine = _in_mm(affine, unit, image, path)
    affine, straightened = upright(affine, shape, path)
    return NiftiHeader(shape, affine, straightened, unit)


def upright(
    affine: affines.Affine, shape: tuple[int, int, int], path: Path
) -> tuple[affines.Affine, bool]:
    """An affine whose axes stand at right angles, and whether they had to be made to.

    Raises:
        InputError: they stand farther askew than rounding explains.
    """
    shear = affines.shear(affine)
    if shear > _SHEAR_LIMIT:
        _refuse(path, "its axes do not stand at right angles", "resample it to an upright grid")
    # Readers of NIfTI that know no shear refuse one of 1e-4; float32 rounds at 1e-7.
    if shear > _SHEAR_OF_ROUNDING:
        return affines.straightened(affine, shape), True
    return affine, False


def _image_class(stream: BinaryIO, path: Path) -> Image:
    size = stream.read(4)
    stream.seek(0)
    lengths = {int.from_bytes(size, "little"), int.from_bytes(size, "big")}
    if 540 in lengths:
        return nib.Nifti2Image
    if 348 not in lengths:
        _refuse(path, "not a NIfTI file", "check what it is")
    stream.seek(344)
    magic = stream.read(4)
    stream.seek(0)
    if magic != b"n+1\0":
        _refuse(path, "Analyze or two-file NIfTI: left and right are not certain", "convert it")
    return nib.Nifti1Image


def _check_scaling(stream: BinaryIO, image_class: Any, path: Path) -> None:
    """Refuses an intercept that leaves no true values; a slope of 0 or NaN means none is set."""
    header = image_class.header_class.from_fileobj(stream, check=False)
    stream.seek(0)
    slope, intercept = (float(header[name]) for name in ("scl_slope", "scl_inter"))
    scaled = math.isfinite(slope) and slope != 0
    unset = math.isnan(slope) and (math.isnan(intercept) or intercept == 0)
    if not (unset or slope == 0 or (scaled and math.isfinite(intercept))):
        wrong = f"scl_slope {slope:g} and scl_inter {intercept:g} give no true values"
        _refuse(path, wrong, "set both, or 1 and 0")


def _checked_shape(image: Image, path: Path) -> tuple[int, int, int]:
    shape = tuple(int(size) for size in image.header.get_data_shape())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    # A singleton may also stand before others, as in (x, y, z, 1, 3): that is a vector image.
    if len(shape) != 3:
        _refuse(path, f"{len(shape)} axes {shape}, not one volume", "extract one volume")
    if min(shape) < 1:
        _refuse(path, f"impossible shape {shape}", "copy or convert it again")
    return shape[0], shape[1], shape[2]


def _check_bytes(image: Image, path: Path) -> None:
    dtype = image.header.get_data_dtype()
    if dtype.names in _COLOURS:
        kind = "".join(dtype.names)
        msg = f"{path.name}: voxels in colour ({kind}); convert it to one grey value a voxel"
        raise ColourError(msg, kind)
    if dtype.kind == "c":
        _refuse(path, f"complex voxels ({dtype.name})", "give the magnitude")
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        _refuse(path, f"voxels of type {dtype.name or dtype}", "convert to integers or floats")
    offset = int(image.dataobj.offset)
    least = int(image.header["sizeof_hdr"]) + 4
    if offset < least:
        _refuse(path, f"voxels begin at byte {offset}, inside the header", "convert it again")
    declared = offset + math.prod(map(int, image.header.get_data_shape())) * dtype.itemsize
    if declared > VOXEL_BYTES_LIMIT:
        _refuse(path, f"header declares {declared / 2**30:.0f} GiB", "check or crop the image")
    size = path.stat().st_size
    packed = isinstance(image.dataobj.file_like, igzip.IGzipFile)
    if declared > size * (_GZIP_RATIO_LIMIT if packed else 1):
        _refuse(path, f"cut: {size} bytes cannot hold the {declared} declared", "copy it again")


def _checked_affine(image: Image, shape: tuple[int, int, int], path: Path) -> affines.Affine:
    header = image.header
    sform, qform = _form(header, "sform", path), _form(header, "qform", path)
    affine = qform if sform is None else sform
    if affine is None:
        _refuse(
            path,
            "no patient coordinates (qform and sform codes are 0)",
            "set the sform and its code if you know the orientation",
        )
    if sform is not None and qform is not None:
        apart = affines.corner_distance(sform, qform, shape)
        if apart > _QFORM_SFORM_TOLERANCE * min(affines.spacing(sform)):
            _refuse(path, f"qform and sform lie {apart:.4g} apart", "set one from the other")
    return affine


def _unit(image: Image, path: Path) -> str:
    code = int(image.header["xyzt_units"]) & _SPATIAL_UNITS
    if code not in _UNITS:
        _refuse(path, f"its spatial unit has the unknown code {code}", "convert the header to mm")
    return _UNITS[code]


def _in_mm(affine: affines.Affine, unit: str, image: Image, path: Path) -> affines.Affine:
    """The affine in mm, unless the unit cannot be right."""
    converted = affine.copy()
    converted[:3] *= _MM[unit]
    longest = max(affines.spacing(converted))
    if unit == "metres" and longest > _LARGEST_VOXEL:
        _refuse(path, f"its unit is metres, but a voxel would be {longest:.4g} mm", "set the unit")
    nameless = int(image.header["xyzt_units"]) & _SPATIAL_UNITS == _UNKNOWN_UNIT
    if nameless and longest < _SMALLEST_VOXEL_WITHOUT_UNIT:
        _refuse(path, f"it names no unit, and a voxel would be {longest:.2g} mm", "set the unit")
    return converted


def _check_spacing(image: Image, affine: affines.Affine, path: Path) -> None:
    """Other readers take the spacing, or its sign, from ``pixdim``."""
    declared = np.asarray(image.header["pixdim"][1:4], dtype=np.float64)
    known = np.array(affines.spacing(affine))
    if not (np.abs(declared - known) <= _PIXDIM_TOLERANCE * known).all():
        numbers = ", ".join(f"{mm:.4g}" for mm in declared)
        wrong = f"pixdim ({numbers}) differs from the lengths of the affine's columns"
        _refuse(path, wrong, "set one from the other")


def _form(header: Any, name: str, path: Path) -> affines.Affine | None:
    """The affine of one kind, ``None`` where its code is 0."""
    if int(header[f"{name}_code"]) == 0:
        return None
    try:
        get = header.get_qform if name == "qform" else header.get_sform
        affine = np.asarray(get(), dtype=np.float64)
    except (HeaderDataError, ValueError, np.linalg.LinAlgError):
        _refuse(path, f"the {name} is no valid transform", "set it again")
    if not np.isfinite(affine).all() or affines.is_singular(affine):
        _refuse(path, f"the {name} is not an invertible transform", "set it again")
    return affine


def _refuse(path: Path, wrong: str, mend: str) -> NoReturn:
    msg = f"{path.name}: {wrong}; {mend}"
    raise InputError(msg)
