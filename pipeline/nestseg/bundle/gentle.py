"""The same bundle for less memory."""

from __future__ import annotations

import copy
from dataclasses import replace

from nestseg.bundle.loaded import LoadedBundle

_LEAST = 32  # voxels; below, the context of a voxel suffers more than the memory gains


def in_smaller_tiles(bundle: LoadedBundle) -> tuple[LoadedBundle, str]:
    """A bundle whose inferer halves its tile along each axis, and a sentence that says so.

    A network without padding gives the same result; one with padding a slightly other one near the
    seams.
    """
    inferer = copy.copy(bundle._inferer)
    tile = getattr(inferer, "roi_size", None)
    if tile is None:
        return bundle, "The bundle computes without tiles: it was tried again as before."
    inferer.roi_size = tuple(min(n, max(n // 2, _LEAST)) for n in tile)
    inferer.sw_batch_size = 1
    sizes = ["×".join(map(str, size)) for size in (inferer.roi_size, tile)]
    note = f"Computed in tiles of {sizes[0]} voxels instead of {sizes[1]}, for want of memory."
    return replace(bundle, _inferer=inferer), note
