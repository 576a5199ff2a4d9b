"""Pictures as volumes: PNG, TIFF and JPEG of microscopes, which have no place in a patient.

A picture is a volume of one slice (a TIFF of several pages: of several), so that everything behind
the readers is the same for all images.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageSequence, UnidentifiedImageError

from nestseg_prep.disk import sync_folder
from nestseg_prep.errors import InputError
from nestseg_prep.volume import Volume

SUFFIXES: Final = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
_GREY: Final = frozenset({"1", "L", "I", "F", "I;16", "I;16B", "I;16L"})
_COLOUR: Final = frozenset({"P", "PA", "LA", "RGB", "RGBA", "CMYK", "YCbCr"})
# Columns run to the left and rows to the back, as on a slice that a radiologist looks at.
_AFFINE: Final = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_picture(path: Path) -> Volume:
    """Read a picture as grey values.

    Colour becomes luminance (ITU-R 601), as Pillow computes it; transparency is dropped.

    Args:
        path: PNG, TIFF (every page a slice) or JPEG.

    Returns:
        ``(columns, rows, pages)`` stored values, pixels of 1 mm for want of a size.

    Raises:
        InputError: damaged, too large for Pillow's limit, pages of several sizes or an odd kind of
            pixels; the line names the file.
        OSError: the file cannot be opened.
    """
    try:
        with Image.open(path) as image:
            pages = [_grey(page, path) for page in ImageSequence.Iterator(image)]
    except (UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path.name}: no picture that can be read; convert it to PNG") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise InputError(f"{path.name}: the picture is cut short; get a whole copy") from error
    if len({page.shape for page in pages}) != 1:
        raise InputError(f"{path.name}: pages of several sizes; store one picture a file")
    return Volume(np.ascontiguousarray(np.stack(pages).T), _AFFINE.copy())


def picture_shape(path: Path) -> tuple[int, int, int]:
    """``(columns, rows, pages)`` from the header alone.

    Raises:
        InputError: no picture.
        OSError: the file cannot be opened.
    """
    try:
        with Image.open(path) as image:
            return (*image.size, getattr(image, "n_frames", 1))
    except (UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path.name}: no picture that can be read; convert it to PNG") from error


def write_picture(mask: Volume, path: Path) -> None:
    """Write a label map of one slice as PNG, 8 or 16 bits; whole under its name or not at all.

    Raises:
        InputError: several slices, or labels outside 0 to 65535.
        OSError: it cannot be written.
    """
    array = np.asarray(mask.array)
    if array.shape[2] != 1:
        raise InputError(f"{path.name}: {array.shape[2]} slices do not fit a PNG; write NIfTI")
    if array.min() < 0 or array.max() > np.iinfo(np.uint16).max:
        raise InputError(f"{path.name}: labels outside 0 to 65535 do not fit a PNG; write NIfTI")
    depth = np.uint8 if array.max() <= np.iinfo(np.uint8).max else np.uint16
    half = path.with_name(f".{path.name}.part")
    try:
        with half.open("wb") as file:
            Image.fromarray(array[:, :, 0].T.astype(depth)).save(file, "PNG")
            file.flush()
            os.fsync(file.fileno())
        if not np.array_equal(read_picture(half).array, array):
            raise OSError(f"{path.name}: read back otherwise than written")
        half.replace(path)
        sync_folder(path.parent)
    finally:
        half.unlink(missing_ok=True)


def _grey(page: Image.Image, path: Path) -> npt.NDArray[Any]:
    if page.mode in _GREY:
        return np.array(page)
    if page.mode in _COLOUR:
        return np.array(page.convert("RGB").convert("L"))
    raise InputError(f"{path.name}: pixels of kind {page.mode}; convert it to grey PNG")
