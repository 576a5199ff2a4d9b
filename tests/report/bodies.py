"""Bodies whose every part is known by its place, for pictures that can be checked."""

from __future__ import annotations

import numpy as np

from nestseg_prep.volume import Volume

LABELS = {1: "front", 3: "top"}


def body(
    shape: tuple[int, int, int] = (60, 50, 40), spacing: tuple[float, float, float] = (1, 1, 1)
) -> tuple[Volume, Volume]:
    """An ellipsoid, RAS; ``front`` lies in front, in the right half; ``top`` is above."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    inside = (grid**2).sum(axis=0) < 0.8
    values = np.where(inside, 300 + 400 * np.cos(4 * grid[0]) + 100 * grid[2], -20)
    mask = np.zeros(shape, np.uint8)
    mask[inside & (grid[1] > 0.3) & (grid[0] > 0)] = 1
    mask[inside & (grid[2] > 0.4)] = 3
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-20, 10, 5)
    return Volume(values.astype(np.float32), affine), Volume(mask, affine)
