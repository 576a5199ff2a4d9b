"""Tiles in passes of one shape: a network that is compiled for a shape is compiled once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from nestseg.inferers.slab import Predictor

_WASTE = 0.1  # of the tiles may be computed twice, for passes that hold more of them

T = TypeVar("T")


def batch_size(groups: Sequence[int], most: int) -> int:
    """Tiles per pass, the same in every pass of an image.

    The last pass of a group is filled up by a tile that it holds already. So the size is the
    largest that makes no more than a tenth of the tiles such fillers; one tile a pass makes none.

    Args:
        groups: number of tiles that are computed before a slab is finished, slab by slab.
        most: tiles per pass, at most.
    """
    tiles = sum(groups)
    for size in range(min(most, max(groups, default=1)), 1, -1):
        filled = sum(-(-count // size) * size for count in groups)
        if filled - tiles <= _WASTE * tiles:
            return size
    return 1


def computed(
    tiles: Sequence[T], size: int, read: Callable[[T], Tensor], predict: Predictor
) -> Iterator[tuple[T, Tensor]]:
    """Each tile with what the network answers to it, ``size`` of them per pass.

    An answer is used before the next pass begins: a runtime may write that into the same memory.

    Args:
        tiles: of one shape.
        size: of :func:`batch_size`.
        read: a tile → ``(B, channels, *tile)``.
        predict: the network.
    """
    for first in range(0, len(tiles), size):
        some = tiles[first : first + size]
        inputs = [read(tile) for tile in some]
        inputs += inputs[-1:] * (size - len(some))
        answers = predict(inputs[0] if size == 1 else torch.cat(inputs)).chunk(size)
        yield from zip(some, answers, strict=False)
        del answers  # before the next ones are made
