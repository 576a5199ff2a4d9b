"""Kinds of odd files: what cannot be read, what is not what it says it is, and NIfTI's oddities.

They go with the odd series of ``kinds``, and are run with them.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import nibabel as nib
import numpy as np
import numpy.typing as npt
from pydicom import uid
from pydicom.dataset import Dataset

from nestseg_prep.phantom.damage import every, setting
from nestseg_prep.phantom.files import relabel, write
from nestseg_prep.phantom.series import Phantom, get_pixels
from nestseg_prep.phantom.truth import Kind, Truth, group
from nestseg_prep.volume import Volume

_Make: TypeAlias = Callable[[Path], Sequence[Truth]]

_IMAGE: Final[Any] = nib.Nifti1Image  # nibabel annotates only part of itself
_CT: Final = Phantom()
_LARGE: Final = Phantom(columns=33, rows=64, slices=4)  # openjpeg wants at least 32 pixels each way
_GONE: Final = 3  # slices at the end, so that what is left is a perfect volume
_APPLE_DOUBLE: Final = b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(200)
_LFS_POINTER: Final = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:"
    + b"0" * 64
    + b"\nsize 527034\n"
)  # fmt: skip
_ERROR_PAGE: Final = b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n" * 5
# Offsets of nifti1.h.
_SCALING_AT: Final = 112
_UNITS_AT: Final = 123


# --- Files among the slices of a series ----------------------------------------------------------


def _last_slices(change: Callable[[Path], None]) -> _Make:
    """A series whose last files are something else."""

    def make(folder: Path) -> list[Truth]:
        series = _CT.datasets()
        for path in write(series, folder)[-_GONE:]:
            path.unlink()
            change(path)
        return [group(series)]

    return make


def _link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target.format(name=path.name))


def _holding(content: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_bytes(content)

    return change


def _beside_each(content: bytes) -> _Make:
    """A series with a file of attributes next to each slice."""

    def make(folder: Path) -> list[Truth]:
        series = _CT.datasets()
        for path in write(series, folder):
            path.with_name(f"._{path.name}").write_bytes(content)
        return [group(series)]

    return make


def _labelled(written: uid.UID, label: uid.UID, source: Phantom = _CT) -> _Make:
    """Files in one transfer syntax that declare another."""

    def make(folder: Path) -> list[Truth]:
        series = source.datasets()
        for path in write(series, folder, syntax=written):
            relabel(path, label)
        return [group(series)]

    return make


def _float_pixels(ds: Dataset) -> None:
    values = get_pixels(ds).astype("<f4")
    setting(PixelData=None, BitsStored=None, HighBit=None, PixelRepresentation=None)(ds)
    ds.BitsAllocated, ds.FloatPixelData = 32, values.tobytes()


def _double_float_pixels(ds: Dataset) -> None:
    values = get_pixels(ds).astype("<f8")
    setting(PixelData=None, BitsStored=None, HighBit=None, PixelRepresentation=None)(ds)
    ds.BitsAllocated, ds.DoubleFloatPixelData = 64, values.tobytes()
    ds.SOPClassUID = uid.ParametricMapStorage


def _unread(change: Callable[[Dataset], None]) -> _Make:
    """A series that holds no volume which we read."""

    def make(folder: Path) -> list[Truth]:
        write(every(change)(Phantom(modality="MR").datasets()), folder)
        return []

    return make


# --- NIfTI ---------------------------------------------------------------------------------------


def _image(array: npt.NDArray[Any] | None = None, scale: float = 1.0, unit: str = "mm") -> Any:
    """An image of the phantom's values or others, its geometry multiplied by ``scale``."""
    truth = _CT.truth
    affine = truth.affine.copy()
    affine[:3] *= scale
    image = _IMAGE(truth.array if array is None else array, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    image.header.set_xyzt_units(unit)
    return image


def _nifti(
    image: Any,
    *,
    name: str = "image.nii.gz",
    patch: tuple[int, str, tuple[float, ...]] | None = None,
    packed: bool = True,
    read: bool = True,
) -> _Make:
    """One NIfTI file.

    Args:
        image: what it holds.
        name: of the file.
        patch: offset, format and values of bytes that are overwritten.
        packed: whether it is compressed, whatever its name says.
        read: whether a reader can know the volume.
    """

    def make(folder: Path) -> list[Truth]:
        content = bytearray(image.to_bytes())
        if patch is not None:
            at, form, values = patch
            struct.pack_into(form, content, at, *values)
        folder.mkdir(parents=True)
        (folder / name).write_bytes(gzip.compress(content) if packed else bytes(content))
        truth = _CT.truth
        return [Volume(truth.array, truth.affine)] if read else []

    return make


def _only(name: str, content: bytes) -> _Make:
    """One file that is not an image."""

    def make(folder: Path) -> list[Truth]:
        folder.mkdir(parents=True)
        (folder / name).write_bytes(content)
        return []

    return make


def _with_attributes(folder: Path) -> list[Truth]:
    truth = _nifti(_image())(folder)
    (folder / "._image.nii.gz").write_bytes(_APPLE_DOUBLE)
    return list(truth)


def _scaling(slope: float, intercept: float) -> tuple[int, str, tuple[float, ...]]:
    return _SCALING_AT, "<2f", (slope, intercept)


_COLOUR: Final = np.zeros((8, 8, 8), [("R", "u1"), ("G", "u1"), ("B", "u1")])
_NRRD: Final = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 4 4 4\nencoding: raw\n\n" + bytes(128)
_MEMBER: Final = ("unreadable-member",)

FILE_KINDS: Final = (
    Kind("xf01_dangling_links", _last_slices(_link_to("gone/{name}")), "refused", _MEMBER),
    Kind("xf02_links_to_themselves", _last_slices(_link_to("{name}")), "refused", _MEMBER),
    Kind("xf03_links_with_too_long_a_name", _last_slices(_link_to("x" * 300)), "refused", _MEMBER),
    Kind("xf04_links_through_a_file", _last_slices(_link_to("0000.dcm/x")), "refused", _MEMBER),
    # Opens as a file does, and gives EIO when it is read.
    Kind("xf05_input_output_error", _last_slices(_link_to("/proc/self/mem")), "refused", _MEMBER),
    Kind("xf06_slices_of_zeros", _last_slices(_holding(bytes(5000))), "refused", _MEMBER),
    Kind("xf07_lfs_pointers", _last_slices(_holding(_LFS_POINTER)), "refused", _MEMBER),
    Kind("xf08_error_pages", _last_slices(_holding(_ERROR_PAGE)), "refused", _MEMBER),
    Kind("xf09_apple_double", _beside_each(_APPLE_DOUBLE)),
    Kind("xf10_says_explicit_is_implicit",
         _labelled(uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian)),
    Kind("xf11_says_implicit_is_explicit",
         _labelled(uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian)),
    Kind("xf12_says_j2k_is_native", _labelled(uid.ExplicitVRLittleEndian, uid.JPEG2000Lossless),
         "refused", ("wrong-transfer-syntax",)),
    Kind("xf13_says_native_is_rle", _labelled(uid.RLELossless, uid.ExplicitVRLittleEndian),
         "refused", ("wrong-transfer-syntax",)),
    Kind("xf14_says_j2k_is_jpegls", _labelled(uid.JPEGLSLossless, uid.JPEG2000Lossless, _LARGE),
         "refused", ("wrong-transfer-syntax",)),
    Kind("xf15_says_rle_is_j2k", _labelled(uid.JPEG2000Lossless, uid.RLELossless, _LARGE),
         "refused", ("wrong-transfer-syntax",)),
    Kind("xf16_says_jpeg_is_rle", _labelled(uid.RLELossless, uid.JPEGLosslessSV1),
         "refused", ("wrong-transfer-syntax",)),
    Kind("xf16b_says_little_is_big_endian",
         _labelled(uid.ExplicitVRBigEndian, uid.ExplicitVRLittleEndian), "refused",
         ("wrong-transfer-syntax",)),
    Kind("xf16c_says_deflated_is_plain",
         _labelled(uid.ExplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian), "refused",
         ("wrong-transfer-syntax",)),
    Kind("xf16d_says_plain_is_deflated",
         _labelled(uid.DeflatedExplicitVRLittleEndian, uid.ExplicitVRLittleEndian), "refused",
         ("wrong-transfer-syntax",)),
    Kind("xf17_float_pixels", _unread(_float_pixels), "refused", ("float-pixels",)),
    Kind("xf18_parametric_map", _unread(_double_float_pixels), "refused", ("float-pixels",)),
    Kind("xf20_nifti_gzip_named_nii", _nifti(_image(), name="image.nii")),
    Kind("xf21_nifti_plain_named_gz", _nifti(_image(), packed=False)),
    Kind("xf22_nifti_without_suffix", _nifti(_image(), name="image", packed=False)),
    Kind("xf23_nifti_named_as_an_option", _nifti(_image(), name="-rf.nii.gz")),
    Kind("xf24_nifti_apple_double", _with_attributes),
    Kind("xf25_nifti_in_microns", _nifti(_image(scale=1000, unit="micron"))),
    Kind("xf26_nifti_in_metres", _nifti(_image(scale=0.001, unit="meter"))),
    Kind("xf27_nifti_metres_without_unit",
         _nifti(_image(scale=0.001, unit="unknown"), read=False), "refused", ("nifti-refused",)),
    Kind("xf28_nifti_mm_called_metres", _nifti(_image(scale=250, unit="meter"), read=False),
         "refused", ("nifti-refused",)),
    Kind("xf29_nifti_unknown_unit_code", _nifti(_image(), patch=(_UNITS_AT, "<B", (5,)),
         read=False), "refused", ("nifti-refused",)),
    Kind("xf30_nifti_infinite_intercept", _nifti(_image(), patch=_scaling(1, np.inf), read=False),
         "refused", ("nifti-refused",)),
    Kind("xf31_nifti_infinite_slope", _nifti(_image(), patch=_scaling(np.inf, 0), read=False),
         "refused", ("nifti-refused",)),
    Kind("xf32_nifti_nan_slope", _nifti(_image(), patch=_scaling(np.nan, np.nan))),
    Kind("xf33_nifti_slope_of_zero", _nifti(_image(), patch=_scaling(0, 7))),
    Kind("xf34_nifti_colour", _nifti(_image(_COLOUR), read=False), "refused", ("colour",)),
    Kind("xf35_nifti_complex", _nifti(_image(np.ones((8, 8, 8), np.complex64)), read=False),
         "refused", ("nifti-refused",)),
    Kind("xf36_nifti_4d_of_one", _nifti(_image(_CT.truth.array[..., None]))),
    Kind("xf37_nifti_lfs_pointer", _only("image.nii.gz", _LFS_POINTER), "refused",
         ("wrong-content",)),
    Kind("xf38_nifti_error_page", _only("image.nii.gz", _ERROR_PAGE), "refused",
         ("wrong-content",)),
    Kind("xf39_nifti_compressed_twice",
         _only("image.nii.gz", gzip.compress(gzip.compress(_image().to_bytes()))), "refused",
         ("wrong-content",)),
    Kind("xf40_nrrd", _only("image.nrrd", _NRRD), "refused", ("nifti-refused",)),
)  # fmt: skip
