"""One inferer for every network that carries its geometry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import EllipsisType
from typing import Any

import torch
from monai.inferers import Inferer, sliding_window_inference
from monai.utils import convert_to_dst_type, convert_to_tensor
from torch import Tensor

from nestseg_prep.geometry import Geometry
from nestseg_prep.grid import Slices, tile_grid
from nestseg_prep.padding import symmetric_padding, unpad
from nestseg_prep.transforms import mirror_pad_tensor

Predictor = Callable[[Tensor], Tensor]


class OverlapTileInferer(Inferer):
    """Segment an image of any size tile by tile, as the network's geometry demands.

    *Valid* networks (margin > 0): the overlap-tile strategy of Ronneberger et al. 2015, fig. 2. The
    border is mirrored by half the margin, tiles step by a multiple of the network's period, and
    each output voxel is computed once: the result does not depend on the tile size, so nothing is
    blended. MONAI's sliding window would rescale such a network's smaller output without a word.

    *Same* networks: the image is mirrored up to an admissible size; windows overlap and are blended
    by MONAI's Gaussian weights. An image that fits into one window is computed in one pass.

    A 2D network segments a volume slice by slice, across the last axis.

    Args:
        roi_size: spatial shape of the network's input for one tile, in voxels; rounded down to the
            nearest shape that the network admits. Small images use a smaller tile.
        overlap: of 'same' windows, as a fraction of the window; valid networks do not need it.
        sw_batch_size: tiles per forward pass.
    """

    def __init__(
        self, roi_size: Sequence[int], overlap: float = 0.5, sw_batch_size: int = 1
    ) -> None:
        super().__init__()
        self.roi_size = tuple(roi_size)
        self.overlap = overlap
        self.sw_batch_size = sw_batch_size

    def __call__(
        self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> Tensor:
        """Logits ``(B, C, *spatial)`` on the grid of ``inputs`` ``(B, in_channels, *spatial)``.

        Args:
            inputs: images; float.
            network: in eval mode, with a ``geometry``; may be wrapped (``network.module``).
            args: passed on to the network.
            kwargs: likewise.
        """
        unwrapped: Any = getattr(network, "module", network)
        geometry: Geometry = unwrapped.geometry

        def predict(tiles: Tensor) -> Tensor:
            return network(tiles, *args, **kwargs)

        image = convert_to_tensor(inputs, track_meta=False)
        segment = self._tiles if geometry.is_valid else self._windows
        if image.dim() == len(geometry.axes) + 3:
            slices = [segment(one, predict, geometry) for one in image.unbind(-1)]
            logits = torch.stack(slices, dim=-1)
        else:
            logits = segment(image, predict, geometry)
        out: Tensor = convert_to_dst_type(logits, inputs)[0]
        return out

    def _tiles(self, image: Tensor, predict: Predictor, geometry: Geometry) -> Tensor:
        grid = tile_grid(geometry, image.shape[2:], geometry.input_within(self.roi_size))
        padded = mirror_pad_tensor(image, grid.padding)
        logits = image.new_empty(0)
        for first in range(0, len(grid.tiles), self.sw_batch_size):
            tiles = grid.tiles[first : first + self.sw_batch_size]
            parts = predict(torch.cat([padded[_inner(tile.read)] for tile in tiles]))
            if not first:  # only now the channels are known
                logits = parts.new_empty((len(image), parts.shape[1], *grid.shape))
            for tile, part in zip(tiles, parts.chunk(len(tiles)), strict=True):
                logits[_inner(tile.write)] = part[_inner(tile.keep)]
        return logits

    def _windows(self, image: Tensor, predict: Predictor, geometry: Geometry) -> Tensor:
        admissible = geometry.input_size(image.shape[2:])
        padding = symmetric_padding(image.shape[2:], admissible)
        window = map(min, geometry.input_within(self.roi_size), admissible)
        logits: Any = sliding_window_inference(
            mirror_pad_tensor(image, padding),
            tuple(window),
            self.sw_batch_size,
            predict,
            overlap=self.overlap,
            mode="gaussian",
        )
        out: Tensor = unpad(logits, padding)
        return out


def _inner(spatial: Slices) -> tuple[EllipsisType | slice, ...]:
    return (..., *spatial)
