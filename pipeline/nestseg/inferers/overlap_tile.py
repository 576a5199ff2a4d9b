"""One inferer for every network whose output has a place in its input."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from operator import gt
from typing import Any, Self

from monai.inferers import Inferer
from monai.utils import convert_to_dst_type, convert_to_tensor
from torch import Tensor

from nestseg.inferers.slab import Slab, Tiling, joined
from nestseg.inferers.stitching import slabs
from nestseg.inferers.tile_choice import best_tile
from nestseg.networks.adapted import adapted, heads, unwrapped
from nestseg.networks.arithmetic import Arithmetic
from nestseg.networks.grid import GridUNet
from nestseg_prep.geometry import AxisGeometry, Geometry

_BYTES = 4  # of a value in float32


class OverlapTileInferer(Inferer):
    """Segment an image of any size tile by tile, as the network's geometry demands.

    Of a network that carries none, such as MONAI's, the sizes that it takes are found out by trial
    (:mod:`nestseg.networks.adapted`), and of several heads the main one counts.

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
        sw_batch_size: tiles per forward pass, at most; each pass over an image has as many.
        background_at_most: what the bundle says of its background: a tile none of whose voxels
            exceeds this value, in the units that the network sees, holds background (class 0) only.
            Such tiles are not computed, and tiles are laid around the body alone
            (:mod:`nestseg.inferers.background`). ``None``: everything is computed.
        memory_mb: 10⁶ bytes in float32 that the maps of a pass may take, of a network that can be
            counted (``GridUNet``). It bounds the tiles per pass. With a valid network it chooses
            the tile too, in place of ``roi_size``: that which computes an image with the least
            arithmetic (:mod:`nestseg.inferers.tile_choice`).
        roi_size_max: the largest window of a 'same' network. Of ``roi_size``, this, and the middle
            of both that one is taken which covers an image, or the body in it, with the fewest
            voxels; neighbours share as many voxels as windows of ``roi_size`` do. ``None``: windows
            are of ``roi_size``.
    """

    def __init__(
        self,
        roi_size: Sequence[int],
        overlap: float = 0.5,
        sw_batch_size: int = 1,
        background_at_most: float | None = None,
        memory_mb: float | None = None,
        roi_size_max: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= overlap < 1:
            raise ValueError(f"overlap must be >= 0 and < 1, got {overlap}")
        if roi_size_max is not None and any(map(gt, roi_size, roi_size_max)):
            raise ValueError(f"roi_size_max {roi_size_max} is smaller than roi_size {roi_size}")
        self.roi_size = tuple(roi_size)
        self.overlap = overlap
        self.sw_batch_size = sw_batch_size
        self.background_at_most = background_at_most
        self.memory_mb = memory_mb
        self.roi_size_max = None if roi_size_max is None else tuple(roi_size_max)

    def __call__(
        self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> Tensor:
        """Logits ``(B, C, *spatial)`` on the grid of ``inputs`` ``(B, in_channels, *spatial)``.

        Args:
            inputs: images; float.
            network: in eval mode; may be wrapped (``network.module``).
            args: passed on to the network.
            kwargs: likewise.
        """
        logits = joined(self.slabs(inputs, network, *args, **kwargs))
        out: Tensor = convert_to_dst_type(logits, inputs)[0]
        return out

    def slabs(
        self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> Iterator[Slab]:
        """The same logits in finished slabs, for who reduces them: no more than one is held.

        Args:
            inputs: as of a call, and so are the others.
            network: likewise.
            args: likewise.
            kwargs: likewise.
        """
        whole = adapted(unwrapped(network))
        geometry: Geometry = whole.geometry

        def predict(tiles: Tensor) -> Tensor:
            return heads(network, tiles, *args, **kwargs)[0]

        image = convert_to_tensor(inputs, track_meta=False)
        spatial = image.shape[2 : 2 + len(geometry.axes)]
        return slabs(image, predict, geometry, self.tiling(whole, spatial, len(image)))

    def tiling(self, network: Any, shape: Sequence[int], images: int = 1) -> Tiling:
        """How an image is cut.

        Args:
            network: with a ``geometry``.
            shape: spatial shape of the image; of a slice, where the network takes slices.
            images: that are computed together.
        """
        roi_size, batch, geometry = self.roi_size, self.sw_batch_size, network.geometry
        counted = None if self.memory_mb is None else arithmetic(network)
        if self.memory_mb is not None and counted is not None:
            values = self.memory_mb * 1e6 / _BYTES / images
            if geometry.is_valid:
                roi_size = best_tile(geometry, counted, shape, values).tile
            largest = geometry.input_size(shape)
            tile = tuple(map(min, geometry.input_within(self.roi_size_max or roi_size), largest))
            batch = max(1, min(batch, int(values / counted.values(tile))))
        return Tiling(roi_size, self.overlap, batch, self.background_at_most, self.roi_size_max)

    def grown(self, whole: Any, part: Any) -> OverlapTileInferer:
        """One for a part of a network that needs less memory: its windows may take what it saves.

        As many times as a voxel of the part holds fewer values may a window hold more voxels; fewer
        windows compute less of an image twice. Of a 'same' ``GridUNet`` whose norms do not take
        their means over the window: others would see what they were not trained on.

        Args:
            whole: the network that the windows were chosen for.
            part: cut off behind one of its heads.
        """
        before, after = arithmetic(whole), arithmetic(part)
        if before is None or after is None or before.normed_by_window or whole.geometry.is_valid:
            return self
        window = whole.geometry.input_within(self.roi_size)
        factor = (before.values(window) / after.values(window)) ** (1 / len(window))
        if factor <= 1:
            return self
        largest = tuple(int(n * factor) for n in self.roi_size_max or self.roi_size)
        return self._changed(roi_size_max=largest)

    def gentler(self, geometry: Geometry) -> OverlapTileInferer:
        """One that needs half the memory: half a tile, cut across its longest axis, one a pass.

        The result of a valid network stays the same. Of another it changes, and the more so where
        instance norms take their means over the tile: it is for images that fit no other way.
        """
        longest = max(range(len(self.roi_size)), key=lambda axis: self.roi_size[axis])
        size, axis = self.roi_size[longest], geometry.axes[longest]
        half = min(size, max(axis.input_within(size // 2), _smallest(axis)))
        roi_size = (*self.roi_size[:longest], half, *self.roi_size[longest + 1 :])
        memory_mb = None if self.memory_mb is None else self.memory_mb / 2
        return self._changed(
            roi_size=roi_size, sw_batch_size=1, memory_mb=memory_mb, roi_size_max=None
        )

    def _changed(self, **attributes: Any) -> Self:
        """The same inferer with other attributes."""
        changed = copy.copy(self)
        vars(changed).update(attributes)
        return changed


def _smallest(axis: AxisGeometry) -> int:
    """The smallest tile that can be laid side by side."""
    return axis.input_size(axis.period)


def arithmetic(network: Any) -> Arithmetic | None:
    """What a pass of a network costs, if it can be counted: a ``GridUNet``, wrapped or not."""
    while not isinstance(network, GridUNet):
        network = getattr(network, "network", None)
        if network is None:
            return None
    return Arithmetic(network.config, network.levels)
