"""How large each label is."""

from __future__ import annotations

import numpy as np

from nestseg_prep.volume import Volume


def volumes_ml(mask: Volume, labels: dict[int, str]) -> dict[str, float]:
    """Volume of each label in millilitres: voxels times the volume of one.

    Args:
        mask: label map; integers.
        labels: value → name.
    """
    voxel_ml = abs(float(np.linalg.det(mask.affine[:3, :3]))) / 1000
    counts = np.zeros(max(labels, default=0) + 1, np.int64)
    for k in range(mask.shape[2]):  # bincount takes eight bytes a voxel
        found = np.bincount(mask.array[:, :, k].ravel(), minlength=len(counts))
        counts += found[: len(counts)]
    return {name: round(float(counts[value]) * voxel_ml, 4) for value, name in labels.items()}
