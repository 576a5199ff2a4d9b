"""An image that goes on beyond its borders as in a mirror, read tile by tile: no second copy."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nestseg_prep.grid import Slices
from nestseg_prep.padding import mirror_index


class Mirrored:
    """Reads from an image what a tile would read from ``mirror_pad_tensor(image, padding)``.

    Args:
        image: ``(..., *spatial)``.
        padding: voxels ``(before, after)`` per spatial axis.
    """

    def __init__(self, image: Tensor, padding: Sequence[tuple[int, int]]) -> None:
        self._image = image
        self._padding = tuple(padding)

    def tile(self, place: Slices) -> Tensor:
        """``(..., *tile)`` at a place in voxels of the padded image; a view where it can be one."""
        found, first = self._image, self._image.dim() - len(place)
        beyond: list[tuple[int, Tensor]] = []
        for dim, (s, (before, after)) in enumerate(
            zip(place, self._padding, strict=True), start=first
        ):
            size = self._image.shape[dim]
            low, high = s.start - before, s.stop - before
            if low >= 0 and high <= size:
                found = found.narrow(dim, low, high - low)
            else:
                beyond.append((dim, torch.from_numpy(mirror_index(size, before, after)[s])))
        for dim, index in beyond:  # of the least that is left
            found = found.index_select(dim, index.to(found.device))
        return found
