"""An image computed tile by tile and handed over slab by slab, each as soon as it is finished.

A slab is final: no later tile touches it. Who wants labels takes the argmax of each slab and never
holds the logits of a whole volume, which is 9 GB for six classes of 512 × 512 × 1400 voxels.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from nestseg.inferers import background
from nestseg.inferers.blending import blended
from nestseg.inferers.slab import Predictor, Slab, Tiling, joined
from nestseg.inferers.valid_tiles import tiled
from nestseg_prep.geometry import Geometry


def slabs(image: Tensor, predict: Predictor, geometry: Geometry, tiling: Tiling) -> Iterator[Slab]:
    """The finished slabs of an image in rising order; together they are the whole of it.

    All passes over an image have one shape. An answer is used before the next pass begins.

    Args:
        image: ``(B, channels, *spatial)``. A 2D network takes a volume slice by slice.
        predict: a tile → ``(B, C, *spatial)`` of what the geometry says.
        geometry: of the network.
        tiling: how the image is cut.

    Raises:
        ValueError: the network has one channel of logits, and the background is to be skipped.
    """
    if image.dim() == len(geometry.axes) + 3:
        yield from _slices(image, predict, geometry, tiling)
    elif geometry.is_valid:
        yield from tiled(image, predict, geometry, tiling)
    else:
        yield from blended(image, predict, geometry, tiling)


def _slices(
    image: Tensor, predict: Predictor, geometry: Geometry, tiling: Tiling
) -> Iterator[Slab]:
    """One slab per slice across the last axis; a slice without body is not computed."""
    last, ones = len(geometry.axes), image.unbind(-1)
    body = background.body(image, tiling.background_at_most)
    wanted = [k for k in range(len(ones)) if body is None or body[..., k].any()] or [0]
    done = 0
    for k in wanted:
        values = joined(slabs(ones[k], predict, geometry, tiling)).unsqueeze(-1)
        until = len(ones) if k == wanted[-1] else k + 1
        for one in range(done, until):
            if one == k:
                yield Slab(last, k, values)
            else:  # without body
                yield Slab(last, one, background.blank(values).expand(values.shape))
        done = until
