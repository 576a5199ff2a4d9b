"""Pictures as volumes: PNG, TIFF and JPEG of microscopes, which have no place in a patient.

A picture is a volume of one slice (a TIFF of several pages: of several), so that everything behind
the readers is the same for all images.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageSequence, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from nestseg_prep.disk import sync_folder
from nestseg_prep.errors import InputError
from nestseg_prep.volume import Volume

RESULT: Final = "nestseg result"
"""What the PNG files of nestseg's own say of their software, so that none is taken for an image."""

SUFFIXES: Final = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
_GREY: Final = frozenset({"1", "L", "I", "F", "I;16", "I;16B", "I;16L"})
_COLOUR: Final = frozenset({"P", "PA", "LA", "RGB", "RGBA", "CMYK", "YCbCr"})
# Columns run to the left and rows to the back, as on a slice that a radiologist looks at.
_AFFINE: Final = np.diag([-1.0, -1.0, 1.0, 1.0])
_MM_PER_INCH: Final = 25.4
_IMAGEJ_MM: Final = {
    "nm": 1e-6,
    "micron": 1e-3,
    "um": 1e-3,
    "µm": 1e-3,
    "\\u00B5m": 1e-3,
    "mm": 1.0,
}
# Cameras, screens and printers write 72 to 2400 dots an inch whatever they saw; microscopes have
# smaller pixels than that, down to those of electrons.
_TRUSTED_MM: Final = (1e-7, 1e-2)


def read_picture(path: Path) -> Volume:
    """Read a picture as grey values.

    Colour becomes luminance (ITU-R 601), as Pillow computes it; transparency is dropped.

    Args:
        path: PNG, TIFF (every page a slice) or JPEG.

    Returns:
        ``(columns, rows, pages)`` stored values, placed as pixels of 1 mm; their true size is
        ``pixel_mm``, where the file gives one that can be believed.

    Raises:
        InputError: damaged, too large for Pillow's limit, pages of several sizes or an odd kind of
            pixels; the line names the file.
        OSError: the file cannot be opened.
    """
    try:
        with Image.open(path) as image:
            pixel_mm = _pixel_mm(image)
            pages = [_grey(page, path) for page in ImageSequence.Iterator(image)]
    except (UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path.name}: no picture that can be read; convert it to PNG") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise InputError(f"{path.name}: the picture is cut short; get a whole copy") from error
    if len({page.shape for page in pages}) != 1:
        raise InputError(f"{path.name}: pages of several sizes; store one picture a file")
    array = np.ascontiguousarray(np.stack(pages).T)
    return Volume(array, _AFFINE.copy(), is_picture=True, pixel_mm=pixel_mm)


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


def is_result(path: Path) -> bool:
    """Whether a picture is a mask or a preview of nestseg's; errors as of :func:`picture_shape`."""
    with Image.open(path) as image:
        return bool(getattr(image, "text", {}).get("Software") == RESULT)


def result_mark() -> PngInfo:
    """The text of a PNG file that :func:`is_result` knows."""
    mark = PngInfo()
    mark.add_text("Software", RESULT)
    return mark


def write_picture(mask: Volume, path: Path, *, result: bool = False) -> None:
    """Write a label map of one slice as PNG, 8 or 16 bits; whole under its name or not at all.

    Args:
        mask: the label map.
        path: where to.
        result: whether to mark it, so that a scan takes it for no image.

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
            Image.fromarray(array[:, :, 0].T.astype(depth)).save(
                file, "PNG", pnginfo=result_mark() if result else None
            )
            file.flush()
            os.fsync(file.fileno())
        if not np.array_equal(read_picture(half).array, array):
            raise OSError(f"{path.name}: read back otherwise than written")
        half.replace(path)
        sync_folder(path.parent)
    finally:
        half.unlink(missing_ok=True)


def _pixel_mm(image: Image.Image) -> tuple[float, float] | None:
    """Width and height of a pixel, from the resolution that a PNG, TIFF or JPEG states.

    ImageJ stores pixels per unit and names the unit in the description.
    """
    described = re.search(r"^ImageJ=.*^unit=(\S+)", _description(image), re.DOTALL | re.MULTILINE)
    unit = _IMAGEJ_MM.get(described[1]) if described else None
    if unit is not None and "resolution" in image.info:
        mm_per, found = unit, image.info["resolution"]
    else:
        mm_per, found = _MM_PER_INCH, image.info.get("dpi", ())
    try:
        across, down = (mm_per / float(number) for number in found)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    low, high = _TRUSTED_MM
    return (across, down) if low <= across <= high and low <= down <= high else None


def _description(image: Image.Image) -> str:
    """ImageDescription of a TIFF."""
    tags: Any = getattr(image, "tag_v2", {})
    return str(tags.get(270, ""))


def _grey(page: Image.Image, path: Path) -> npt.NDArray[Any]:
    if page.mode in _GREY:
        return np.array(page)
    if page.mode in _COLOUR:
        return np.array(page.convert("RGB").convert("L"))
    raise InputError(f"{path.name}: pixels of kind {page.mode}; convert it to grey PNG")
