"""Which structures a bundle looks for before it segments: another bundle finds them, coarsely.

A bundle whose network knows crops takes whole scans if its inference config names a locator::

    "locator": {
        "bundle": "brain_structures",
        "margin_mm": 6,
        "regions": {"left": "left hippocampus", "right": "right hippocampus"}
    }

``bundle`` is the name or path of the locator. ``regions`` maps a prefix for the names of labels to
the label of the locator to look for. The network runs once for each region, and each region has
labels of its own: with two classes, 1 and 2 are those of the first region, 3 and 4 of the second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nestseg_prep.errors import InputError
from nestseg_prep.grid import Slices

ID = "locator"
"""Of the locator in an inference config."""


@dataclass(frozen=True)
class Locator:
    """What an inference config says of its locator.

    Attributes:
        bundle: name or path of the bundle that locates.
        margin_mm: added to the box of a structure on each side.
        regions: prefix of label names → label of the locator.
    """

    bundle: str
    margin_mm: float
    regions: dict[str, str]

    @classmethod
    def of(cls, config: Mapping[str, Any], name: str) -> Locator | None:
        """The locator of an inference config; ``None`` if it names none.

        Args:
            config: as plain data.
            name: of the bundle, for messages.

        Raises:
            InputError: the entry is not of the form above.
        """
        if ID not in config:
            return None
        try:
            entry = dict(config[ID])
            bundle, margin = entry.pop("bundle"), float(entry.pop("margin_mm"))
            regions = {str(prefix): str(label) for prefix, label in entry.pop("regions").items()}
            if entry or not isinstance(bundle, str) or not regions or not 0 <= margin < math.inf:
                raise ValueError
        except (AttributeError, KeyError, TypeError, ValueError):
            raise InputError(
                f"{name}: `{ID}` of its config must hold `bundle` (a name), `margin_mm` (a number) "
                "and `regions` (prefix: label of the locator); correct it"
            ) from None
        return cls(bundle, margin, regions)

    def labels(self, classes: Mapping[int, str]) -> dict[int, str]:
        """Value in the mask → name, over all regions.

        Args:
            classes: value → name of the network's classes, without the background.
        """
        names = [f"{prefix} {name}" for prefix in self.regions for name in classes.values()]
        return dict(enumerate(names, start=1))

    def per_region(self, known: Mapping[int, Any], classes: int) -> dict[int, Any]:
        """What is known of a class, for its label in every region.

        Args:
            known: class → anything.
            classes: number of classes, without the background.
        """
        return {
            region * classes + value: fact
            for region in range(len(self.regions))
            for value, fact in known.items()
        }


def box(
    mask: npt.NDArray[Any], value: int, margin_mm: float, spacing: tuple[float, ...]
) -> Slices | None:
    """The box around the largest piece of a label, widened by a margin within the image.

    Args:
        mask: label map.
        value: of the label.
        margin_mm: added on each side, rounded up to whole voxels.
        spacing: of the voxels in mm.

    Returns:
        One slice for each axis; ``None`` if no voxel has the label.
    """
    pieces, count = ndimage.label(mask == value)
    if not count:
        return None
    largest = int(np.bincount(pieces.ravel())[1:].argmax())
    found = ndimage.find_objects(pieces)[largest]
    margins = [math.ceil(margin_mm / mm) for mm in spacing]
    return tuple(
        slice(max(side.start - more, 0), min(side.stop + more, size))
        for side, more, size in zip(found, margins, mask.shape, strict=True)
    )
