"""Labelled images for training: their split, and labels brought to the voxels of their images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nestseg.label.images import read_labels
from nestseg_prep.errors import InputError, describe
from nestseg_prep.images import read_image
from nestseg_prep.nifti import write_nifti
from nestseg_prep.nifti_header import LABELS
from nestseg_prep.on_grid import labels_on
from nestseg_prep.selection import Selection
from nestseg_prep.volume import Volume


class Labelled(NamedTuple):
    """An image with its label as files of one grid.

    Attributes:
        id: of the image in the datastore.
        image: NIfTI.
        label: NIfTI, on the voxels of ``image``.
    """

    id: str
    image: Path
    label: Path

    @property
    def item(self) -> dict[str, str]:
        """What a dataset of MONAI lists."""
        return {"image": str(self.image), "label": str(self.label)}


def split(ids: Iterable[str], validation: float) -> tuple[list[str], list[str]]:
    """Divide images into those that train and those that validate.

    The part of an image follows from its id alone, so that an image which trained once never
    validates later, when more are labelled. There is always one of each.

    Args:
        ids: of the images.
        validation: part that validates, above 0 and below 1.

    Raises:
        InputError: fewer than two images, or no such part.
    """
    if not 0 < validation < 1:
        raise InputError(f"val_split {validation:g}: give a part between 0 and 1")
    ranked = sorted(ids, key=_place)
    if len(ranked) < 2:
        raise InputError(
            f"{len(ranked)} labelled image: training needs two or more, one of them to validate"
        )
    count = sum(_place(one) < validation for one in ranked)
    count = min(max(count, 1), len(ranked) - 1)
    return sorted(ranked[count:]), sorted(ranked[:count])


def _place(text: str) -> float:
    return int(hashlib.sha256(text.encode()).hexdigest()[:13], 16) / 16**13


def usable(
    datalist: Sequence[Mapping[str, Any]], classes: int, selection: Selection, folder: Path
) -> tuple[list[Labelled], list[str]]:
    """Write the labelled images that a bundle can learn from, each label on its image's voxels.

    Args:
        datalist: ``{"id": id, "image": path, "label": path}`` of each.
        classes: highest number of a class.
        selection: which images the bundle takes.
        folder: for the files.

    Returns:
        The images, and one line for each that is left out.
    """
    found, left = [], []
    for number, item in enumerate(datalist, start=1):
        try:
            image = read_image(Path(item["image"]), selection)
            labels = labels_on(read_labels(Path(item["label"])), image)
            if labels.array.max() > classes:
                raise InputError(
                    f"holds class {labels.array.max()}, the model knows 1 to {classes}"
                )
            name = folder / f"{number:05}"
            one = Labelled(str(item["id"]), _written(image, name), _written(labels, name, "label"))
        except Exception as error:  # noqa: BLE001  one bad case must never stop the others
            # Ids are names of files or UIDs: they stay out of logs.
            left.append(f"label {number} of {len(datalist)}: {describe(error)}")
            continue
        found.append(one)
    return found, left


def _written(volume: Volume, name: Path, kind: str = "image") -> Path:
    path = name.with_name(f"{name.name}_{kind}.nii.gz")
    array = volume.array if kind == "label" else np.asarray(volume.image)
    write_nifti(Volume(array, volume.affine), path, mark=LABELS if kind == "label" else "")
    return path
