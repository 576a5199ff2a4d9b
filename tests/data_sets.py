"""Small labelled data sets, written in the layouts that hospitals have them in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from nestseg_prep.nifti import write_nifti
from nestseg_prep.volume import Volume

Spacing = tuple[float, float, float]


def labelled(
    shape: tuple[int, ...], spacing: Spacing, seed: int, values: Sequence[float] = (20, 100, 200)
) -> tuple[Volume, Volume]:
    """A bright and a less bright ball, with noise; image and label map."""
    rng = np.random.default_rng(seed)
    grid = np.indices(shape) * np.reshape(spacing, (3, 1, 1, 1))
    middle = np.array(shape) * spacing / 2
    radius = min(np.array(shape[:2]) * spacing[:2]) / 6
    label = np.zeros(shape, np.uint8)
    for value, side in ((1, -1), (2, 1)):
        centre = middle + np.array((side * radius * 1.3, rng.uniform(-1, 1), 0))
        distance = ((grid - centre[:, None, None, None])[:2] ** 2).sum(0)
        label[distance < radius**2] = value
    image = ndimage.gaussian_filter(np.array(values, np.float32)[label], 0.7)
    image += rng.normal(0, 5, shape).astype(np.float32)
    affine = np.diag([*spacing, 1.0])
    return Volume(image, affine), Volume(label, affine)


def write_cases(
    folder: Path,
    images: str,
    labels: str,
    shapes: Sequence[tuple[int, ...]],
    spacing: Spacing,
    values: Sequence[float] = (20, 100, 200),
) -> None:
    """Write cases under patterns such as ``imagesTr/case_{}.nii.gz``."""
    for number, shape in enumerate(shapes):
        for pattern, volume in zip(
            (images, labels), labelled(shape, spacing, number, values), strict=True
        ):
            path = folder / pattern.format(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_nifti(volume, path)


def decathlon(
    folder: Path,
    shapes: Sequence[tuple[int, ...]],
    spacing: Spacing = (1.0, 1.0, 1.0),
    modality: str = "MRI",
    values: Sequence[float] = (20, 100, 200),
) -> Path:
    """A data set of the Medical Segmentation Decathlon."""
    write_cases(
        folder, "imagesTr/ball_{}.nii.gz", "labelsTr/ball_{}.nii.gz", shapes, spacing, values
    )
    files = [f"ball_{number}.nii.gz" for number in range(len(shapes))]
    index = {
        "name": "Balls",
        "description": "Two balls",
        "licence": "CC0",
        "modality": {"0": modality},
        "labels": {"0": "background", "1": "dim ball", "2": "bright ball"},
        "numTraining": len(files),
        "training": [{"image": f"./imagesTr/{f}", "label": f"./labelsTr/{f}"} for f in files],
        "test": [],
    }
    (folder / "dataset.json").write_text(json.dumps(index))
    return folder


def nnunet(
    folder: Path,
    shapes: Sequence[tuple[int, ...]],
    spacing: Spacing = (1.0, 1.0, 1.0),
    channel: str = "CT",
    values: Sequence[float] = (-700, 40, 120),
) -> Path:
    """A data set of nnU-Net, version 2."""
    write_cases(
        folder, "imagesTr/ball_{}_0000.nii.gz", "labelsTr/ball_{}.nii.gz", shapes, spacing, values
    )
    index = {
        "channel_names": {"0": channel},
        "labels": {"background": 0, "dim ball": 1, "bright ball": 2},
        "numTraining": len(shapes),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(index))
    return folder
