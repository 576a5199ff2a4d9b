"""A picture to see at a glance whether a mask lies where it should."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

from nestseg_prep.disk import sync_folder
from nestseg_prep.volume import Volume

COLOURS = ((255, 92, 51), (51, 187, 255), (120, 230, 90), (250, 210, 60), (210, 120, 250))
"""Outline colours, by the label's place in the list; they repeat."""

_PANEL = 320  # height of a panel in pixels
_PLANES = ((0, "sagittal"), (1, "coronal"), (2, "axial"))
_TEXT = (235, 235, 235)
_LINE = 16

_orientations: Any = nib.orientations  # nibabel annotates only part of itself

Pixels = npt.NDArray[np.uint8]


class _Panel(NamedTuple):
    grey: Pixels
    labels: Pixels


def draw_preview(image: Volume, mask: Volume, labels: dict[int, str]) -> Image.Image:
    """Three planes through the mask, its outline over the image, radiological convention.

    Each plane shows the slice with most mask on it (the middle one if the mask is empty), at true
    proportions, with anterior or superior up and the patient's right on the left.

    Args:
        image: true values; grey runs from the 1st to the 99th percentile.
        mask: label map on the grid of ``image``.
        labels: value → name, for the legend.
    """
    canonical, spacing = _canonical(image)
    flat, _ = _canonical(mask)
    low, high = np.percentile(canonical, (1, 99))
    panels = []
    for axis, _name in _PLANES:
        areas = np.count_nonzero(flat, axis=tuple(a for a in range(3) if a != axis))
        index = int(areas.argmax()) if areas.any() else flat.shape[axis] // 2
        pixel = tuple(s for a, s in enumerate(spacing) if a != axis)
        scaled = (canonical.take(index, axis) - low) / max(high - low, 1e-6)
        grey = np.asarray(np.clip(scaled, 0, 1) * 255, dtype=np.uint8)
        panels.append(
            _Panel(
                _upright(grey, pixel, Image.Resampling.BICUBIC),
                _upright(
                    np.asarray(flat.take(index, axis), dtype=np.uint8),
                    pixel,
                    Image.Resampling.NEAREST,
                ),
            )
        )
    return _with_legend([_outlined(panel, labels) for panel in panels], labels)


def write_png(picture: Image.Image, path: Path) -> None:
    """Write a picture as PNG: whole under its name, read back and compared, or not at all.

    Raises:
        OSError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            picture.save(file, format="PNG", optimize=True)
            file.flush()
            os.fsync(file.fileno())
        with Image.open(partial) as written:
            if written.tobytes() != picture.tobytes():
                raise OSError(f"{path.name}: read back otherwise than written")
        partial.replace(path)
        sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _canonical(volume: Volume) -> tuple[npt.NDArray[np.float32], tuple[float, ...]]:
    """The array turned to RAS+ axes, and its spacing along them."""
    turn = _orientations.io_orientation(volume.affine)
    array = _orientations.apply_orientation(volume.array.astype(np.float32), turn)
    order = np.argsort(turn[:, 0])
    return array, tuple(volume.spacing[int(k)] for k in order)


def _upright(
    plane: npt.NDArray[np.uint8], pixel: tuple[float, ...], how: Image.Resampling
) -> Pixels:
    """A RAS+ plane as rows from top to bottom, enlarged to the panel's height."""
    rows = plane.T[::-1, ::-1]  # up: second axis; left: the patient's right, or anterior
    height, width = rows.shape[0] * pixel[1], rows.shape[1] * pixel[0]
    size = (max(1, round(_PANEL * width / height)), _PANEL)
    return np.asarray(Image.fromarray(np.ascontiguousarray(rows)).resize(size, how))


def _outlined(panel: _Panel, labels: dict[int, str]) -> Image.Image:
    rgb = np.stack([panel.grey] * 3, axis=-1)
    for place, value in enumerate(labels):
        region = panel.labels == value
        edge = region & ~ndimage.binary_erosion(region, iterations=2)
        rgb[edge] = COLOURS[place % len(COLOURS)]
    return Image.fromarray(rgb)


def _with_legend(panels: list[Image.Image], labels: dict[int, str]) -> Image.Image:
    width = sum(panel.width for panel in panels)
    sheet = Image.new("RGB", (width, _PANEL + _LINE * (len(labels) + 1)))
    draw = ImageDraw.Draw(sheet)
    left = 0
    for panel, (_, plane) in zip(panels, _PLANES, strict=True):
        sheet.paste(panel, (left, 0))
        draw.text((left + 4, 4), plane, fill=_TEXT, stroke_width=1, stroke_fill="black")
        left += panel.width
    for place, name in enumerate(labels.values()):
        top = _PANEL + _LINE // 2 + _LINE * place
        draw.rectangle((6, top + 2, 16, top + 12), fill=COLOURS[place % len(COLOURS)])
        draw.text((22, top), name, fill=_TEXT)
    return sheet
