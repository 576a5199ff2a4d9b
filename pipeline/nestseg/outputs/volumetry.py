"""How large each label is."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nestseg_prep.volume import Volume


@dataclass(frozen=True)
class Sizes:
    """How large each label is, by its name.

    Attributes:
        volumes_ml: millilitres; empty for pictures, which have no thickness.
        areas_mm2: square millimetres, for pictures of one page whose pixels have a known size.
        pixels: counts, for pictures.
    """

    volumes_ml: dict[str, float] = field(default_factory=dict)
    areas_mm2: dict[str, float] = field(default_factory=dict)
    pixels: dict[str, int] = field(default_factory=dict)

    def with_more(self, more: Sizes) -> Sizes:
        """These sizes, and those of other labels."""
        return Sizes(
            self.volumes_ml | more.volumes_ml,
            self.areas_mm2 | more.areas_mm2,
            self.pixels | more.pixels,
        )

    @property
    def measured(self) -> tuple[str, dict[str, float]]:
        """The unit that says most, ``"ml"``, ``"mm²"`` or ``"pixels"``, and the sizes in it."""
        if self.areas_mm2:
            return "mm²", self.areas_mm2
        return ("pixels", dict(self.pixels)) if self.pixels else ("ml", self.volumes_ml)


def in_figures(size: float, unit: str) -> str:
    """A size as people read it: ``"1.75 ml"`` is 1.75, but 1,755,000 pixels are not 1.755e+06."""
    return f"{size:.0f}" if unit == "pixels" else f"{size:.4g}"


def sizes(mask: Volume, labels: dict[int, str]) -> Sizes:
    """Measure each label: the volume of its voxels, or the area of its pixels.

    Args:
        mask: label map; integers.
        labels: value → name.
    """
    counts = np.zeros(max(labels, default=0) + 1, np.int64)
    for k in range(mask.shape[2]):  # bincount takes eight bytes a voxel
        found = np.bincount(mask.array[:, :, k].ravel(), minlength=len(counts))
        counts += found[: len(counts)]
    of_labels = {name: int(counts[value]) for value, name in labels.items()}
    if not mask.is_picture:
        voxel_ml = abs(float(np.linalg.det(mask.affine[:3, :3]))) / 1000
        return Sizes(volumes_ml={name: round(n * voxel_ml, 4) for name, n in of_labels.items()})
    areas = {}
    if mask.pixel_mm is not None and mask.shape[2] == 1:
        pixel_mm2 = mask.pixel_mm[0] * mask.pixel_mm[1]
        areas = {name: float(f"{n * pixel_mm2:.6g}") for name, n in of_labels.items()}
    return Sizes(areas_mm2=areas, pixels=of_labels)


def volumes_ml(mask: Volume, labels: dict[int, str]) -> dict[str, float]:
    """Volume of each label in millilitres; empty for pictures. See :func:`sizes`."""
    return sizes(mask, labels).volumes_ml
