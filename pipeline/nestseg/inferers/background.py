"""What a bundle says of its background, and what need not be computed for it.

The rule: *a tile all of whose voxels are at most a value holds background only.* So every voxel of
such a tile is background, whatever tiles overlap it: this is what the rule says, and all other
voxels keep the very values that they have without it. The rest of the image is looked at within a
box around the body, outside of which there is background too.

Background is written as logits: 100 for class 0, 0 for the others and for a channel of
disagreement. Its probability is 1 in every precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from nestseg.inferers.slab import Slab, across, inner, moved, pieces, plane_values
from nestseg_prep.grid import Slices

_FAR_AHEAD = 100.0


def body(image: Tensor, at_most: float | None) -> Tensor | None:
    """Where an image ``(B, channels, *spatial)`` is more than background, ``(*spatial)``; bool.

    What is no number counts as body. ``None`` if nothing is known of the background.
    """
    if at_most is None:
        return None
    found: Tensor = ~(image <= at_most).flatten(0, 1).all(dim=0)
    return found


def box(where: Tensor | None, shape: Sequence[int]) -> Slices | None:
    """The smallest box that holds all of the body; the whole where nothing is known of it.

    ``None`` if there is no body.
    """
    if where is None:
        return tuple(slice(0, n) for n in shape)
    found = []
    for axis in range(where.dim()):
        others = [other for other in range(where.dim()) if other != axis]
        line = where
        for other in reversed(others):
            line = line.any(dim=other)
        places = line.nonzero()
        if not len(places):
            return None
        found.append(slice(int(places[0]), int(places[-1]) + 1))
    return tuple(found)


def blank(values: Tensor) -> Tensor:
    """Logits of background for what has the channels of ``values``: ``(1, C, 1, …)``.

    Raises:
        ValueError: there is one channel, so that no class is the background's.
    """
    channels = values.shape[1]
    if channels < 2:
        raise ValueError("background_at_most needs a network with a class for the background")
    out = values.new_zeros((1, channels, *[1] * (values.dim() - 2)))
    out[:, 0] = _FAR_AHEAD
    return out


def cleared(values: Tensor, at: Sequence[int], empty: Sequence[Slices]) -> Tensor:
    """Values with background where the empty tiles are; the same tensor if they are elsewhere.

    Args:
        values: ``(B, C, *spatial)`` of a part of an image.
        at: its first voxel.
        empty: places of tiles, in the same voxels.
    """
    ends = [a + n for a, n in zip(at, values.shape[2:], strict=True)]
    out = values
    for tile in empty:
        low = [max(t.start, a) for t, a in zip(tile, at, strict=True)]
        high = [min(t.stop, end) for t, end in zip(tile, ends, strict=True)]
        if all(one < other for one, other in zip(low, high, strict=True)):
            out = values.clone() if out is values else out
            place = tuple(slice(*ends) for ends in zip(low, high, strict=True))
            out[inner(moved(place, at))] = blank(values)
    return out


def widened(parts: Iterator[Slab], box: Slices, shape: Sequence[int]) -> Iterator[Slab]:
    """The slabs of a whole image from those of a box in it, with background around the box.

    Args:
        parts: slabs of the box in rising order, at least one; they start where they do in the
            image, and their planes are those of the box.
        box: a place in the image.
        shape: of the image.
    """
    empty: Tensor | None = None
    axis = 0
    for slab in parts:
        if empty is None:  # only now the channels are known
            axis, empty = slab.axis, blank(slab.values).expand(len(slab.values), -1, *shape)
            yield from _planes(empty, axis, 0, box[axis].start)
        yield _widened(slab, empty, box)
    if empty is None:
        raise ValueError("a box has slabs")
    yield from _planes(empty, axis, box[axis].stop, shape[axis])


def _widened(slab: Slab, empty: Tensor, box: Slices) -> Slab:
    around = empty.narrow(2 + slab.axis, slab.start, slab.stop - slab.start)
    if around.shape == slab.values.shape:
        return slab
    values = around.clone(memory_format=torch.contiguous_format)
    values[across(box, slab.axis)] = slab.values
    return Slab(slab.axis, slab.start, values)


def _planes(empty: Tensor, axis: int, low: int, high: int) -> Iterator[Slab]:
    """Planes of background, which take no memory."""
    for start, stop in pieces(low, high, plane_values(empty, axis)):
        yield Slab(axis, start, empty.narrow(2 + axis, start, stop - start))
