"""Which structures a bundle looks for before it segments: another bundle finds them, coarsely.

A bundle whose network knows crops takes whole scans if its inference config names a locator::

    "locator": {
        "bundle": "my_locator",
        "margin_mm": 6,
        "regions": {"left": "hippocampus", "right": "hippocampus"}
    }

``bundle`` is the name or path of the locator. ``regions`` maps a prefix for the names of labels to
the label of the locator to look for. Two regions may share a label: the first is then the piece on
the patient's left, the second that on the right. The network runs once for each region, and each
region has labels of its own: with two classes, 1 and 2 are those of the first region, 3 and 4 of
the second.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from scipy import ndimage

from nestseg_prep.errors import InputError
from nestseg_prep.grid import Slices
from nestseg_prep.volume import Volume

ID = "locator"
"""Of the locator in an inference config."""
_SIDES: Final = 2
_SPECK: Final = 0.2
"""A piece smaller than this part of the largest is none of the two."""


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
            most = max(Counter(regions.values()).values(), default=0)
            if entry or not isinstance(bundle, str) or not 0 <= margin < math.inf:
                raise ValueError
            if not 1 <= most <= _SIDES:
                raise ValueError
        except (AttributeError, KeyError, TypeError, ValueError):
            raise InputError(
                f"{name}: `{ID}` of its config must hold `bundle` (a name), `margin_mm` (a number) "
                "and `regions` (prefix: label of the locator, two of one label at most); correct it"
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


def boxes(
    mask: Volume, values: Sequence[int], margin_mm: float, middle_mm: float
) -> list[Slices | None]:
    """The box around each region, widened by a margin within the image.

    A region is the largest piece of its label. If two regions share a label, they are its two
    largest pieces, the left one first; a single one lies on the left or right of the middle.

    Args:
        mask: label map.
        values: label of each region.
        margin_mm: added on each side, rounded up to whole voxels.
        middle_mm: where the patient's left ends and the right begins: the first of the RAS
            coordinates.

    Returns:
        One slice for each axis; ``None`` where a region has no piece.
    """
    found: list[Slices | None] = [None] * len(values)
    for value in set(values):
        regions = [region for region, one in enumerate(values) if one == value]
        pieces = _largest(mask, value, len(regions))
        if len(pieces) < len(regions):
            regions = regions[:1] if pieces and pieces[0].x_mm < middle_mm else regions[-1:]
        for region, piece in zip(regions, pieces, strict=False):
            found[region] = _widened(piece.box, margin_mm, mask)
    return found


class _Piece(NamedTuple):
    """One piece of a label: its box, and its centre along the patient's left-right axis."""

    box: Slices
    x_mm: float


def _largest(mask: Volume, value: int, count: int) -> list[_Piece]:
    """The largest pieces of a label from left to right; specks beside the largest do not count."""
    numbers, pieces = ndimage.label(mask.array == value)
    if not pieces:
        return []
    sizes = np.bincount(numbers.ravel())[1:]
    chosen = np.argsort(-sizes, kind="stable")[:count]
    chosen = chosen[sizes[chosen] >= _SPECK * sizes.max()]
    sides = ndimage.find_objects(numbers)
    centres = ndimage.center_of_mass(numbers > 0, numbers, chosen + 1)
    xs = [float((mask.affine @ [*centre, 1])[0]) for centre in centres]
    found = [_Piece(sides[number], x) for number, x in zip(chosen, xs, strict=True)]
    return sorted(found, key=lambda piece: piece.x_mm)


def _widened(box: Slices, margin_mm: float, mask: Volume) -> Slices:
    margins = [math.ceil(margin_mm / mm) for mm in mask.spacing]
    return tuple(
        slice(max(side.start - more, 0), min(side.stop + more, size))
        for side, more, size in zip(box, margins, mask.shape, strict=True)
    )
