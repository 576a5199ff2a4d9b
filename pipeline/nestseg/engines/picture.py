"""A picture of numbers by layer and epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

CELL = (6, 12)
"""Width and height of one epoch of one layer, in pixels."""

SMALLEST, LARGEST = (30, 60, 200), (200, 30, 30)
"""Blue and red, as Drozdzal et al. 2016 draw weight updates; between them white."""

NOTHING = (0, 0, 0)
"""Where a value is 0, infinite or not a number."""

_GAP = 16


def draw_layers(
    layers: Sequence[str], panels: Mapping[str, Sequence[Sequence[float]]]
) -> Image.Image:
    """Layers downwards, epochs to the right, one panel per quantity; colours are logarithmic.

    Every panel has its own scale, from its smallest value (blue) to its largest (red); both are
    written above it. Black is a value that has no logarithm: 0, infinite, not a number.

    Args:
        layers: names, from top to bottom.
        panels: title → values of each layer and epoch, at least 0.
    """
    font = ImageFont.load_default(size=CELL[1] - 2)
    names = max(round(font.getlength(layer)) for layer in layers) + _GAP
    grids = {title: np.asarray(values, dtype=np.float64) for title, values in panels.items()}
    titles = {title: f"{title}, {_range(grid)}" for title, grid in grids.items()}
    widths = [
        max(grid.shape[1] * CELL[0], round(font.getlength(titles[title]))) + _GAP
        for title, grid in grids.items()
    ]
    top = 2 * CELL[1]
    sheet = Image.new("RGB", (names + sum(widths), top + len(layers) * CELL[1]), "white")
    draw = ImageDraw.Draw(sheet)
    for row, layer in enumerate(layers):
        draw.text((4, top + row * CELL[1]), layer, fill="black", font=font)
    left = names
    for (title, grid), width in zip(grids.items(), widths, strict=True):
        draw.text((left, CELL[1] // 2), titles[title], fill="black", font=font)
        panel = Image.fromarray(colours(grid))
        size = (grid.shape[1] * CELL[0], grid.shape[0] * CELL[1])
        sheet.paste(panel.resize(size, Image.Resampling.NEAREST), (left, top))
        left += width
    return sheet


def colours(grid: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """The colour of each value: ``(layers, epochs)`` → ``(layers, epochs, 3)``."""
    drawable = _drawable(grid)
    height = np.log(grid, where=drawable, out=np.zeros_like(grid))
    low, high = (height[drawable].min(), height[drawable].max()) if drawable.any() else (0.0, 0.0)
    place = (height - low) / (high - low) if high > low else np.full_like(height, 0.5)
    stops = np.array([SMALLEST, (255, 255, 255), LARGEST])
    rgb = np.stack([np.interp(place, (0, 0.5, 1), stops[:, k]) for k in range(3)], axis=-1)
    rgb[~drawable] = NOTHING
    pixels: npt.NDArray[np.uint8] = np.rint(rgb).astype(np.uint8)
    return pixels


def _drawable(grid: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    return np.isfinite(grid) & (grid > 0)


def _range(grid: npt.NDArray[np.float64]) -> str:
    values = grid[_drawable(grid)]
    return f"{values.min():.1e} to {values.max():.1e}" if values.size else "nothing to show"
