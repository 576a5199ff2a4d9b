"""Every level over the validation cases. Only cases that are handed in are ever opened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from monai.data.meta_tensor import MetaTensor

from nestseg.bundle.built import BundleConfig
from nestseg.bundle.bundle import Bundle
from nestseg.pruning.record import Failure
from nestseg.pruning.scores import CaseScores, score
from nestseg_prep.affine import corner_distance
from nestseg_prep.errors import InputError, describe
from nestseg_prep.transforms import LoadVolumed
from nestseg_prep.volume import Volume

Case = Mapping[str, str]
"""``{"image": path, "label": path}``."""

_SAME_PLACE_MM = 1e-3
_NAMED = (".nii", ".nii.gz", ".png")


@dataclass
class Scored:
    """What came of the validation cases.

    Attributes:
        levels: level → scores of each case that could be scored at every level.
        voxels: image path → size, of those cases.
        failed: the others.
    """

    levels: dict[int, list[CaseScores]]
    voxels: dict[str, int] = field(default_factory=dict)
    failed: list[Failure] = field(default_factory=list)


def read_image(path: str) -> Volume:
    """An image as every other part of nestseg reads it.

    Raises:
        InputError: it cannot be trusted; one line, with the remedy.
    """
    return _volume(LoadVolumed("image")({"image": path})["image"])


def truth_reader(bundle: Path) -> Callable[[Case], Volume]:
    """How a bundle reads the truth when it evaluates itself: on its own grid, as its own labels.

    Raises:
        InputError: the bundle does not say; it has no configs for training and evaluation.
    """
    preprocess = BundleConfig(bundle, "train.json", "evaluate.json").build("validate#preprocessing")

    def read(case: Case) -> Volume:
        return _volume(preprocess(dict(case))["label"])

    return read


def score_levels(
    bundles: Mapping[int, Bundle],
    cases: Iterable[Case],
    read_truth: Callable[[Case], Volume],
    surface_tolerance_mm: float,
    on_case: Callable[[], None] = lambda: None,
) -> Scored:
    """Score each level on the cases that can be scored at all of them.

    Args:
        bundles: level → the bundle pruned to it.
        cases: to score on.
        read_truth: of :func:`truth_reader`.
        surface_tolerance_mm: of the surface Dice.
        on_case: called when a case is finished.
    """
    scored = Scored({level: [] for level in bundles})
    for number, case in enumerate(cases):
        try:
            image, truth = read_image(case["image"]), read_truth(case)
            _check_same_grid(image, truth)
            found = {
                level: score(
                    bundle.predict(image).mask, truth, len(bundle.info.labels), surface_tolerance_mm
                )
                for level, bundle in bundles.items()
            }
        except Exception as error:  # noqa: BLE001  one bad case must never stop the others
            scored.failed.append(Failure(_name(Path(case["image"]), number), describe(error)))
        else:
            scored.voxels[case["image"]] = image.array.size
            for level, scores in found.items():
                scored.levels[level].append(scores)
        on_case()
    return scored


def _volume(image: MetaTensor) -> Volume:
    return Volume(np.asarray(image[0]), np.asarray(image.affine, dtype=np.float64))


def _check_same_grid(image: Volume, truth: Volume) -> None:
    if (
        image.shape != truth.shape
        or corner_distance(image.affine, truth.affine, image.shape) > _SAME_PLACE_MM
    ):
        raise InputError("the label map does not lie on the voxels of its image")


def _name(image: Path, number: int) -> str:
    """A NIfTI file or a picture keeps its name; that of DICOM may be the patient's."""
    return image.name if image.name.lower().endswith(_NAMED) else f"case {number}"
