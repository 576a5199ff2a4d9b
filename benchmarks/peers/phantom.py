"""A CT of the trunk with known labels, of any size: ellipsoids in a body in air, with noise.

The same seed gives the same voxels. Each organ has a density of its own, so that a network learns
it in minutes: what is measured here is time, memory and agreement, not accuracy on patients.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.peers.phantom_labels import ORGANS
from nestseg_prep.nifti import write_nifti
from nestseg_prep.phantom import Phantom, write
from nestseg_prep.volume import Volume

Array = npt.NDArray[Any]
AIR, FAT, MUSCLE = -1000, -110, 40
NOISE_HU = 12
BODY = (0.44, 0.31)  # semi-axes, as fractions of the plane
SKIN = 0.93  # of the body's semi-axes: inside is muscle, outside fat
JITTER = 0.012  # by how much the centres of organs differ between seeds


@dataclass(frozen=True, eq=False)
class Trunk(Phantom):
    """A series with given values.

    Attributes:
        hu: ``(columns, rows, slices)`` int16, rows downwards, slices upwards.
    """

    hu: Array = field(default_factory=lambda: np.zeros((0, 0, 0), np.int16))

    @property
    def values(self) -> npt.NDArray[np.int16]:
        """``(columns, rows, slices)``."""
        return self.hu


@dataclass(frozen=True)
class Made:
    """A phantom and its truth.

    Attributes:
        series: writes itself as DICOM, and is a volume.
        labels: uint8 on the voxels of ``series.truth``.
    """

    series: Trunk
    labels: Volume

    def write_dicom(self, folder: Path) -> None:
        """One file for each slice."""
        write(self.series.datasets(), folder)

    def write_nifti(self, path: Path) -> None:
        """The same voxels on the same grid."""
        write_nifti(self.series.truth, path)

    def write_truth(self, path: Path) -> None:
        """The labels."""
        write_nifti(self.labels, path)


def make(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], seed: int, name: str = ""
) -> Made:
    """A trunk.

    Args:
        shape: columns, rows, slices.
        spacing: mm between columns, rows, slices.
        seed: of the noise, and of the small differences between patients.
        name: of the series; another name is another series.
    """
    rng = np.random.default_rng(seed)
    centres = [np.array(row[2]) + rng.uniform(-JITTER, JITTER, 3) for row in ORGANS]
    hu = np.empty(shape, np.int16, order="F")
    labels = np.zeros(shape, np.uint8, order="F")
    noise = rng.normal(0, NOISE_HU, (shape[0] + 64, shape[1] + 64)).astype(np.float32)
    x, y = np.ogrid[: shape[0], : shape[1]]
    across, down = (x + 0.5) / shape[0], (y + 0.5) / shape[1]
    from_middle = ((across - 0.5) / BODY[0]) ** 2 + ((down - 0.5) / BODY[1]) ** 2
    body = np.select([from_middle < SKIN**2, from_middle < 1], [MUSCLE, FAT], AIR)
    for k in range(shape[2]):
        level = (k + 0.5) / shape[2]
        plane, here = body.astype(np.float32), labels[:, :, k]
        for number, ((_, value, _, axes), centre) in enumerate(
            zip(ORGANS, centres, strict=True), start=1
        ):
            room = 1 - ((level - centre[2]) / axes[2]) ** 2
            if room <= 0:
                continue
            inside = ((across - centre[0]) / axes[0]) ** 2 + ((down - centre[1]) / axes[1]) ** 2
            plane[inside < room] = value
            here[inside < room] = number
        dx, dy = rng.integers(0, 64, 2)
        plane += noise[dx : dx + shape[0], dy : dy + shape[1]]
        hu[:, :, k] = np.rint(plane.clip(-1024, 3000))
    name = name or f"trunk {seed}"
    sizes = dict(zip(("columns", "rows", "slices"), shape, strict=True))
    gaps = dict(zip(("between_columns", "between_rows", "between_slices"), spacing, strict=True))
    series = Trunk(**sizes, **gaps, name=name, study=name, hu=hu)
    return Made(series, Volume(labels[:, ::-1], series.truth.affine))
