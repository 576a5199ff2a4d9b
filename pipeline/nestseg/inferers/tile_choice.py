"""The tile of a valid network that computes an image with the least arithmetic.

Each tile computes a margin again that its neighbours computed already, so larger tiles compute
less in all; memory bounds them. The result does not depend on the tile.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Protocol

from nestseg_prep.geometry import AxisGeometry, Geometry
from nestseg_prep.grid import aligned_stride


class Cost(Protocol):
    """What a pass over a tile of some spatial shape takes."""

    def macs(self, shape: Sequence[int]) -> int:
        """Multiplications."""

    def values(self, shape: Sequence[int]) -> int:
        """Values held at once."""


@dataclass(frozen=True)
class Choice:
    """A tile and what it makes of an image.

    Attributes:
        tile: spatial shape of the network's input.
        tiles: how many cover the image.
        macs: of all of them.
        values: held at once in one of them.
    """

    tile: tuple[int, ...]
    tiles: int
    macs: int
    values: int


def best_tile(geometry: Geometry, cost: Cost, shape: Sequence[int], values: float) -> Choice:
    """The tile with the least arithmetic in all among those that fit; of equal ones the smallest.

    Args:
        geometry: of the network; valid.
        cost: of the network.
        shape: of the image.
        values: that may be held at once.

    Returns:
        The choice; where no tile fits, the one that holds the fewest values.
    """
    per_axis = [_candidates(axis, n) for axis, n in zip(geometry.axes, shape, strict=True)]
    found = []
    for along in product(*per_axis):
        tile, count = tuple(t for t, _ in along), prod(k for _, k in along)
        found.append(Choice(tile, count, count * cost.macs(tile), cost.values(tile)))
    fitting = [choice for choice in found if choice.values <= values]
    if not fitting:
        return min(found, key=lambda choice: choice.values)
    return min(fitting, key=lambda choice: (choice.macs, choice.values))


def _candidates(axis: AxisGeometry, size: int) -> Iterable[tuple[int, int]]:
    """Of each number of tiles along an axis, the smallest tile that needs no more of them."""
    smallest, largest = axis.input_size(min(size, axis.period)), axis.input_size(size)
    by_count: dict[int, int] = {}
    for tile in range(largest, smallest - 1, -axis.period):
        by_count[_count(axis, size, tile)] = tile
    return [(tile, count) for count, tile in by_count.items()]


def _count(axis: AxisGeometry, size: int, tile: int) -> int:
    """Tiles along an axis."""
    rest = size - axis.output_size(tile)
    return 1 if rest <= 0 else 1 - (-rest // aligned_stride(axis, tile))
