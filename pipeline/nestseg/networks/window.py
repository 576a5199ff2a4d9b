"""A pixel classifier: the class of a voxel from the window centred on it.

Cireşan, Giusti, Gambardella, Schmidhuber 2012, "Deep Neural Networks Segment Neuronal Membranes in
Electron Microscopy Images". The net maps a window of w voxels to the logits of its centre. Sliding
it over an image repeats almost all of the work; the same numbers come out in one pass

* with every layer behind a pool *dilated* and the pools at stride 1, or
* with *max-pooling fragments* (Giusti et al. 2013): each pool keeps all its shifted results,
  stacked in the batch, and the outputs are interleaved at the end.

The first is what :meth:`WindowNet.forward` does; the second uses plain layers only and checks it.
"""

# No `from __future__ import annotations`: torch.jit.script reads the annotations of modules.
from collections.abc import Sequence
from itertools import product

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv, Pool
from monai.networks.layers.utils import get_act_layer
from torch import Tensor, nn

from nestseg.networks.blocks import he_init
from nestseg.networks.fovea import Fovea
from nestseg.networks.sized import SizedNetwork
from nestseg_prep.geometry import AxisGeometry, Geometry


def window_sizes(window: int, convs: Sequence[int]) -> list[int]:
    """Voxels per axis of a window, at first and behind each convolution and 2-pooling."""
    sizes = [window]
    for kernel in convs:
        sizes.append((sizes[-1] - kernel + 1) // 2)
    return sizes


class WindowNet(SizedNetwork):
    """Convolutions and 2-poolings down to one voxel, then fully connected layers; returns logits.

    ``(B, in_channels, *spatial)`` → ``(B, out_channels, *spatial - (window - 1))``: one window per
    output voxel; a patch of exactly one window gives one.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: classes (with softmax) or labels (with sigmoid).
        window: w, voxels per axis; odd, so that it has a centre.
        convs: kernel sizes of the unpadded convolutions; each is followed by a 2-pooling.
        features: channels of each convolution.
        hidden: units of the fully connected layer before the last.
        act: activation in MONAI's notation.
        fovea: what happens to a window before it enters; it depends on the window's place, so a
            net with a fovea takes single windows only.

    Raises:
        ValueError: nothing is left of the window, or it is even; in ``forward``, an image smaller
            than a window, or one larger for a net with a fovea.
    """

    def __init__(  # noqa: PLR0913  the columns of the paper's table
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 2,
        window: int = 95,
        convs: Sequence[int] = (4, 5, 4, 4),
        features: int = 48,
        hidden: int = 200,
        *,
        act: str = "relu",
        fovea: Fovea | None = None,
    ) -> None:
        sizes = window_sizes(window, convs)
        if window % 2 == 0 or min(sizes) < 1:
            raise ValueError(f"a window must be odd and something of it must be left; got {sizes}")
        field = fovea.field if fovea else window
        super().__init__(Geometry((AxisGeometry(field - 1, 1, 0, field),) * spatial_dims))
        self.window, self.n_pools, self.fovea = window, len(convs), fovea
        kernels = [*convs, sizes[-1], 1]  # a fully connected layer is a convolution of what is left
        channels = [in_channels, *[features] * len(convs), hidden, out_channels]
        conv = Conv[Conv.CONV, spatial_dims]
        self.convs = nn.ModuleList(
            conv(before, after, kernel)
            for before, after, kernel in zip(channels[:-1], channels[1:], kernels, strict=True)
        )
        self.pool = Pool[Pool.MAX, spatial_dims](2)
        self.act = get_act_layer(act)
        he_init(self)

    @torch.jit.unused
    def check_size(self, x: Tensor) -> None:
        """As for every network; and a net with a fovea takes single windows.

        Raises:
            ValueError: an image smaller than a window, or larger and the net has a fovea.
        """
        super().check_size(x)
        if self.fovea and any(n != self.fovea.field for n in x.shape[2:]):
            raise ValueError(
                f"a net with a fovea sees one window at a time, got {tuple(x.shape[2:])}: "
                f"run it on tiles of {self.fovea.field} voxels; there is no dense evaluation"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Logits for the image or the patches ``x``; see the class."""
        if not torch.jit.is_scripting():
            self.check_size(x)
        if self.fovea is not None:
            return self.forward_patches(self.fovea(x))
        is_patch = True
        for n in x.shape[2:]:
            is_patch = is_patch and n == self.window
        return self.forward_patches(x) if is_patch else self.forward_dense(x)

    def forward_patches(self, x: Tensor) -> Tensor:
        """The net as the paper draws it: ``(B, C, *window)`` → ``(B, out_channels, 1, …)``."""
        for k, conv in enumerate(self.convs):
            x = conv(x)
            if k <= self.n_pools:
                x = self.act(x)
            if k < self.n_pools:
                x = self.pool(x)
        return x

    def forward_dense(self, image: Tensor) -> Tensor:
        """All windows of an image at once: behind the k-th pool, everything is dilated by 2^k."""
        x, dilation = image, 1
        for k, conv in enumerate(self.convs):
            if x.dim() == 4:
                x = F.conv2d(x, conv.weight, conv.bias, dilation=dilation)  # type: ignore[arg-type]
            else:
                x = F.conv3d(x, conv.weight, conv.bias, dilation=dilation)  # type: ignore[arg-type]
            if k <= self.n_pools:
                x = self.act(x)
            if k < self.n_pools:
                if x.dim() == 4:
                    x = F.max_pool2d(x, 2, stride=1, dilation=dilation)
                else:
                    x = F.max_pool3d(x, 2, stride=1, dilation=dilation)
                dilation *= 2
        return self._crop(x, image)

    def forward_fragments(self, image: Tensor) -> Tensor:
        """All windows of an image at once, by max-pooling fragments (Giusti et al. 2013)."""
        dims = image.dim() - 2
        shifts = list(product((0, 1), repeat=dims))
        # A fragment may be a voxel shorter than its siblings, which then lose one: pad the far end.
        x = F.pad(image, [0, 2**self.n_pools] * dims)
        for k, conv in enumerate(self.convs):
            x = conv(x)
            if k <= self.n_pools:
                x = self.act(x)
            if k < self.n_pools:
                even = [(n - 1) // 2 * 2 for n in x.shape[2:]]
                x = torch.cat([self.pool(narrow(x, shift, even)) for shift in shifts])
        for _ in range(self.n_pools):
            sizes = x.shape[1:]  # (shifts · B, C, *n) → (B, C, *2n)
            x = x.reshape(*[2] * dims, -1, *sizes)
            order = [axis for dim in range(dims) for axis in (dims + 2 + dim, dim)]
            x = x.permute(dims, dims + 1, *order)
            x = x.reshape(-1, sizes[0], *(2 * n for n in sizes[1:]))
        return self._crop(x, image)

    def _crop(self, x: Tensor, image: Tensor) -> Tensor:
        """Poolings that drop an odd last voxel leave results that belong to no whole window."""
        for dim in range(2, x.dim()):
            x = x.narrow(dim, 0, image.size(dim) - self.window + 1)
        return x


def narrow(x: Tensor, start: Sequence[int], length: Sequence[int]) -> Tensor:
    """The part of ``x`` ``(B, C, *spatial)`` that starts at ``start`` on its spatial axes."""
    for dim, (first, n) in enumerate(zip(start, length, strict=True), start=2):
        x = x.narrow(dim, first, n)
    return x
