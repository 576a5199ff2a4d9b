"""NIfTI files ↔ volumes, through nibabel alone.

Other readers take a cut file for a whole one and fill it with zeros, or write half a file to a
full disk without a word; here a file that was written has been read back and compared. Intel's
ISA-L packs and unpacks: twice as fast to read and several times as fast to write as Python's gzip,
with the same checks of length and checksum (``benchmarks/bench_io.py``).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

import nibabel as nib
import numpy as np
import numpy.typing as npt
from isal import igzip

from nestseg_prep import affine as affines
from nestseg_prep import nifti_header
from nestseg_prep.disk import sync_folder
from nestseg_prep.errors import InputError
from nestseg_prep.fill import finite
from nestseg_prep.volume import Volume

_SAME_PLACE_MM: Final = 1e-3
_SCANNER: Final = 1  # NIFTI_XFORM_SCANNER_ANAT
_CHUNK: Final = 2**20
_IMAGE: Final[Any] = nib.Nifti1Image  # nibabel annotates only part of itself

Array: TypeAlias = npt.NDArray[Any]


def read_nifti(path: Path) -> Volume:
    """Reads one volume with its true values (``scl_slope`` and ``scl_inter`` applied).

    Integers stay integers where no scaling is declared. Up to 0.1 % of voxels that are not finite
    become the lowest finite value.

    Raises:
        InputError: the file is damaged to its last byte, holds more than one volume, colour or
            complex voxels, or its geometry cannot be trusted.
        OSError: the file cannot be opened.
    """
    path = Path(path)
    with nifti_header.open_image(path) as (stream, image):
        header = nifti_header.check_header(image, path)
        array = _true_values(image).reshape(header.shape, order="F")
        # The checksum of a gzip stream stands behind its last byte: read on to meet it.
        while stream.read(_CHUNK):
            pass
    return Volume(_finite(array, path), header.affine)


def write_nifti(volume: Volume, path: Path, step: float = 1.0, mark: str = "") -> None:
    """Writes a volume so that under its name there is either nothing or a whole, verified file.

    The file gets sform = qform with code 1 (scanner) and mm, and the same bytes for the same
    volume.

    Args:
        volume: to write.
        path: ends in .nii or .nii.gz.
        step: what one unit of an integer volume stands for; readers multiply by it.
        mark: of a result (``nifti_header.LABELS``, ``MAP``), which a scan takes for no image.

    Raises:
        InputError: the affine is sheared (readers would disagree where voxels lie), or the values
            fit no NIfTI type.
        OSError: the file cannot be written; nothing is left under its name.
    """
    path = Path(path)
    if not path.name.endswith(nifti_header.SUFFIXES):
        msg = f"{path.name}: a NIfTI name ends in .nii or .nii.gz"
        raise InputError(msg)
    array = _storable(volume.array)
    # A name that ends as the final one does, so that it is read back by the same rules.
    temporary = path.with_name(f".{os.getpid()}.partial.{path.name}")
    try:
        _write(array, volume.affine, temporary, step, mark)
        _verify(array, volume.affine, temporary, step)
        temporary.replace(path)
    except InputError as error:
        raise InputError(str(error).replace(temporary.name, path.name)) from error
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def _true_values(image: nifti_header.Image) -> Array:
    stored = image.header.get_data_dtype()
    slope, intercept = image.dataobj.slope, image.dataobj.inter
    raw = image.dataobj.get_unscaled()
    if isinstance(raw, np.memmap):  # the file may change or go
        raw = np.array(raw)
    if (slope, intercept) == (1.0, 0.0):
        return np.asarray(raw, dtype=stored.newbyteorder("="), order="F")
    # float32 holds 24 bits of a number exactly: enough for 8 and 16 bit voxels.
    exact = np.float64 if stored.itemsize > 2 else np.float32
    values = np.empty(raw.shape, dtype=exact, order="F")
    for k in range(raw.shape[-1]):  # plane by plane: the product takes eight bytes a voxel
        values[..., k] = raw[..., k] * np.float64(slope) + np.float64(intercept)
    return values


def _finite(array: Array, path: Path) -> Array:
    try:
        return finite(array)
    except InputError as error:
        msg = f"{path.name}: {error}"
        raise InputError(msg) from error


def _storable(array: Array) -> Array:
    """The array in a type that every NIfTI reader knows, with the same values."""
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    if array.dtype == np.float16:
        return array.astype(np.float32)
    if array.dtype in (np.int64, np.uint64):
        bounds = np.iinfo(np.int32)
        if array.min() < bounds.min or array.max() > bounds.max:
            msg = "integers beyond 32 bits fit no common NIfTI type; convert to float first"
            raise InputError(msg)
        return array.astype(np.int32)
    if array.dtype.kind not in "iuf":
        msg = f"voxels of type {array.dtype} fit no NIfTI type"
        raise InputError(msg)
    return array


def _write(array: Array, affine: affines.Affine, path: Path, step: float, mark: str) -> None:
    image = _IMAGE(array, affine)
    image.set_sform(affine, code=_SCANNER)
    image.set_qform(affine, code=_SCANNER)
    image.header.set_xyzt_units("mm")
    if mark:
        nifti_header.mark_result(image, mark)
    with path.open("xb") as file:
        if path.name.endswith(".gz"):
            # No name and no time inside: the same volume gives the same bytes.
            with igzip.IGzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as packed:
                _write_image(image, packed, step)
        else:
            _write_image(image, file, step)
        file.flush()
        os.fsync(file.fileno())


def _write_image(image: nifti_header.Image, file: IO[bytes] | igzip.IGzipFile, step: float) -> None:
    """The image as it is, and what its values are to be multiplied by."""
    if step == 1:
        image.to_stream(file)
        return
    # nibabel would divide the values by the slope of the header; they are divided already.
    header = image.header.copy()
    header.set_slope_inter(step, 0.0)
    header["vox_offset"] = header.single_vox_offset
    header.write_to(file)  # and that there are no extensions
    array = np.asarray(image.dataobj)
    for k in range(array.shape[2]):
        file.write(array[:, :, k].tobytes(order="F"))


def _verify(array: Array, affine: affines.Affine, path: Path, step: float) -> None:
    with nifti_header.open_image(path) as (stream, image):
        header = nifti_header.check_header(image, path)
        read_back = np.asarray(image.dataobj.get_unscaled()).reshape(header.shape, order="F")
        while stream.read(_CHUNK):
            pass
        slope = image.dataobj.slope
    if not np.array_equal(read_back, array) or slope != np.float32(step):
        msg = f"{path.name}: what was written reads back differently; check the disk"
        raise OSError(msg)
    if affines.corner_distance(header.affine, affine, array.shape) > _SAME_PLACE_MM:
        msg = f"{path.name}: the affine does not survive being written as float32"
        raise InputError(msg)
