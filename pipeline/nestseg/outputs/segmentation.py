"""What comes of one image: its mask, and what the network knows besides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nestseg.outputs.dicom.algorithm import Algorithm
from nestseg.outputs.flag import Flag
from nestseg.outputs.plausibility import Expected, flags, unlike_training
from nestseg.outputs.volumetry import Sizes, sizes
from nestseg_prep.errors import InputError
from nestseg_prep.volume import Volume

STEP: Final = 1 / 65535
"""A value of an uncertainty map or a probability is its stored uint16 times this."""

Stored = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Prediction:
    """What a bundle says of an image.

    Attributes:
        masks: label maps on exactly the voxels of the image: uint8, or uint16 where a label is
            above 255. One that holds all labels; or, where labels may overlap, one for each of
            ``labels`` in their order, which holds no other.
        uncertainty: mean disagreement around the mask, 0 to 1; ``None`` if nothing could disagree
            or the mask is empty.
        uncertainty_map: disagreement of each voxel on the grid of the image, uint16 times ``STEP``;
            ``None`` if it was not asked for, or nothing could disagree.
        notes: what was done differently than asked, in sentences.
        computed_by: library and numbers, as ``"openvino bf16"``; ``""`` for torch as the bundle's
            own inferer runs it.
        labels: value in the mask → name.
        made_by: the bundle.
        expected: value → what its structure looks like, as far as the bundle says.
        uncertainty_limit: the largest uncertainty of the bundle's validation cases.
    """

    masks: tuple[Volume, ...]
    uncertainty: float | None = None
    uncertainty_map: Volume | None = None
    notes: tuple[str, ...] = ()
    computed_by: str = ""
    labels: dict[int, str] = field(default_factory=dict)
    made_by: Algorithm | None = None
    expected: dict[int, Expected] = field(default_factory=dict)
    uncertainty_limit: float | None = None
    _probability: tuple[Callable[[], Volume], ...] = ()

    @property
    def mask(self) -> Volume:
        """The label map that holds all labels.

        Raises:
            InputError: labels may overlap, so there is a mask for each.
        """
        if len(self.masks) > 1:
            raise InputError("the bundle's labels may overlap: there is a mask for each, not one")
        return self.masks[0]

    def by_mask(self) -> Iterator[tuple[Volume, dict[int, str]]]:
        """Each mask with the labels that it may hold, value → name."""
        if len(self.masks) == 1:
            yield self.masks[0], self.labels
            return
        for mask, (value, name) in zip(self.masks, self.labels.items(), strict=True):
            yield mask, {value: name}

    def to_draw(self) -> Volume:
        """One label map for pictures: where labels share a voxel, the smallest of them shows."""
        if len(self.masks) == 1:
            return self.masks[0]
        drawn = np.zeros_like(self.masks[0].array)
        for mask in sorted(self.masks, key=lambda one: -np.count_nonzero(one.array)):
            np.copyto(drawn, mask.array, where=mask.array != 0)
        return self.masks[0].with_voxels(drawn)

    @cached_property
    def sizes(self) -> Sizes:
        """How large each label is."""
        measured = Sizes()
        for mask, labels in self.by_mask():
            measured = measured.with_more(sizes(mask, labels))
        return measured

    @property
    def volumes(self) -> dict[str, float]:
        """Millilitres of each label, by its name; empty for pictures, which have no thickness."""
        return self.sizes.volumes_ml

    @cached_property
    def flags(self) -> tuple[Flag, ...]:
        """What a person should look at; see :mod:`nestseg.outputs.plausibility`."""
        return (
            *unlike_training(self.uncertainty, self.uncertainty_limit),
            *(
                flag
                for mask, labels in self.by_mask()
                for flag in flags(mask, labels, self.expected, self.volumes)
            ),
        )

    @property
    def labels_with_probabilities(self) -> int:
        """How many labels :meth:`probabilities` gives, the background among them."""
        return len(self._probability)

    def probabilities(self) -> Iterator[tuple[int, Volume]]:
        """Each label's value with its probability on the grid of the image, uint16 times ``STEP``.

        The background comes first. Each volume is made when it is asked for: two bytes a voxel, one
        label at a time. Nothing comes if probabilities were not asked for.
        """
        for value, volume in enumerate(self._probability):
            yield value, volume()


def stored(values: npt.NDArray[np.floating]) -> Stored:
    """Values from 0 to 1 as multiples of ``STEP``."""
    return np.asarray(np.rint(np.clip(values, 0, 1) / np.float32(STEP)), dtype=np.uint16)


def uncertainty_score(mask: npt.NDArray[np.integer], disagreement: Stored) -> float | None:
    """The mean disagreement over the mask and the voxels that share a face with it.

    Args:
        mask: label map, 0 where there is nothing.
        disagreement: on the same grid, in multiples of ``STEP``.

    Returns:
        0 (all agree) to 1, or ``None`` if the mask is empty.
    """
    found = mask > 0
    boxes = ndimage.find_objects(found.view(np.uint8))
    if not boxes or boxes[0] is None:
        return None
    box = tuple(
        slice(max(side.start - 1, 0), min(side.stop + 1, size))
        for side, size in zip(boxes[0], mask.shape, strict=True)
    )
    around = ndimage.binary_dilation(found[box])
    return float(disagreement[box][around].mean(dtype=np.float64)) * STEP
