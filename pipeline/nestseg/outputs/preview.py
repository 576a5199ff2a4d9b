"""A picture to see at a glance whether a mask lies where it should."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image, ImageDraw

from nestseg.outputs.planes import COLOURS, Plane, draw_planes
from nestseg_prep.disk import sync_folder
from nestseg_prep.picture import result_mark
from nestseg_prep.volume import Volume

_PANEL = 320  # height of a panel in pixels
_TEXT = (235, 235, 235)
_LINE = 16


def draw_preview(image: Volume, mask: Volume, labels: dict[int, str]) -> Image.Image:
    """The planes of :func:`~nestseg.outputs.planes.draw_planes` side by side, with a legend.

    Args:
        image: true values.
        mask: label map on the grid of ``image``.
        labels: value → name.
    """
    planes = draw_planes(image, mask, labels, _PANEL)
    width = sum(plane.picture.width for plane in planes)
    sheet = Image.new("RGB", (width, _PANEL + _LINE * (len(labels) + 1)))
    draw = ImageDraw.Draw(sheet)
    _side_by_side(sheet, draw, planes)
    for place, name in enumerate(labels.values()):
        top = _PANEL + _LINE // 2 + _LINE * place
        draw.rectangle((6, top + 2, 16, top + 12), fill=COLOURS[place % len(COLOURS)])
        draw.text((22, top), name, fill=_TEXT)
    return sheet


def _side_by_side(sheet: Image.Image, draw: ImageDraw.ImageDraw, planes: list[Plane]) -> None:
    left = 0
    for plane in planes:
        sheet.paste(plane.picture, (left, 0))
        draw.text((left + 4, 4), plane.name, fill=_TEXT, stroke_width=1, stroke_fill="black")
        left += plane.picture.width


def write_png(picture: Image.Image, path: Path) -> None:
    """Write a picture as PNG: whole under its name, read back and compared, or not at all.

    Raises:
        OSError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            # A tenth of the time of `optimize`, for a file that is a twentieth larger.
            picture.save(file, format="PNG", compress_level=3, pnginfo=result_mark())
            file.flush()
            os.fsync(file.fileno())
        with Image.open(partial) as written:
            if written.tobytes() != picture.tobytes():
                raise OSError(f"{path.name}: read back otherwise than written")
        partial.replace(path)
        sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)
