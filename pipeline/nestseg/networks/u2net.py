"""U²-Net: a U of U's.

Qin, Zhang, Huang, Dehghan, Zaiane, Jagersand 2020, "U²-Net: Going Deeper with Nested U-Structure
for Salient Object Detection". Each stage of the outer U is a small residual U-Net of its own (RSU);
each stage of its way up, and the deepest, has a side output, and the main output fuses them.
"""

# No `from __future__ import annotations`: torch.jit.script reads the annotations of modules.
from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv, Norm, Pool
from torch import Tensor, nn

from nestseg.networks.blocks import he_init
from nestseg.networks.sized import SizedNetwork
from nestseg_prep.geometry import Geometry


class Stage(NamedTuple):
    """An RSU of the paper's table: ``height`` levels, ``mid`` channels inside, ``out`` behind.

    ``flat`` makes it the RSU-4F, which dilates instead of pooling.
    """

    height: int
    mid: int
    out: int
    flat: bool = False


FULL = {
    "en1": Stage(7, 32, 64),
    "en2": Stage(6, 32, 128),
    "en3": Stage(5, 64, 256),
    "en4": Stage(4, 128, 512),
    "en5": Stage(4, 256, 512, flat=True),
    "en6": Stage(4, 256, 512, flat=True),
    "de5": Stage(4, 256, 512, flat=True),
    "de4": Stage(4, 128, 256),
    "de3": Stage(5, 64, 128),
    "de2": Stage(6, 32, 64),
    "de1": Stage(7, 16, 64),
}
LITE = {name: stage._replace(mid=16, out=64) for name, stage in FULL.items()}


def resize_like(x: Tensor, like: Tensor) -> Tensor:
    """``x`` resampled linearly to the spatial size of ``like``: odd sizes leave no factor of 2."""
    mode = "bilinear" if x.dim() == 4 else "trilinear"
    return F.interpolate(x, size=like.shape[2:], mode=mode, align_corners=False)


def conv_bn_relu(dims: int, before: int, after: int, dilation: int = 1) -> nn.Sequential:
    """A 3-convolution that keeps the size, batch norm, ReLU."""
    conv = Conv[Conv.CONV, dims](before, after, 3, padding=dilation, dilation=dilation)
    return nn.Sequential(conv, Norm[Norm.BATCH, dims](after), nn.ReLU())


class RSU(nn.Module):
    """Residual U-block (section 3.1, figure 2e): h(x) + U(h(x)), h the first convolution.

    ``(B, before, *spatial)`` → ``(B, stage.out, *spatial)``, of any size: pools round up.
    """

    def __init__(self, dims: int, before: int, stage: Stage) -> None:
        super().__init__()
        n, mid, flat = stage.height - 1, stage.mid, stage.flat
        dilations = [2**k if flat else 1 for k in range(n)]
        self.first = conv_bn_relu(dims, before, stage.out)
        self.down = nn.ModuleList()
        for k, dilation in enumerate(dilations):
            pool = Pool[Pool.MAX, dims](2, ceil_mode=True) if k and not flat else nn.Identity()
            inputs = mid if k else stage.out
            self.down.append(nn.Sequential(pool, conv_bn_relu(dims, inputs, mid, dilation)))
        self.bottom = conv_bn_relu(dims, mid, mid, 2**n if flat else 2)
        self.up = nn.ModuleList()
        for k, dilation in reversed(list(enumerate(dilations))):
            outputs = mid if k else stage.out
            self.up.append(conv_bn_relu(dims, 2 * mid, outputs, dilation))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        out: Tensor = x
        maps: list[Tensor] = []
        for down in self.down:
            out = down(out)
            maps.append(out)
        out = self.bottom(out)
        for up in self.up:
            skip = maps.pop()
            out = up(torch.cat([resize_like(out, skip), skip], dim=1))
        return x + out


class U2Net(SizedNetwork):
    """The network of Qin et al. 2020, figure 5; returns logits. Any size goes in.

    In training a list of seven ``(B, out_channels, *spatial)``: the fused output first, then the
    side outputs from the finest, De1, to the coarsest, En6. In eval the fused one alone.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: classes (with softmax) or labels (with sigmoid).
        stages: the eleven stages; ``FULL`` or ``LITE``, or a table of other widths.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 1,
        stages: Mapping[str, Stage] = FULL,
    ) -> None:
        super().__init__(Geometry.same(spatial_dims, period=1))
        dims, conv = spatial_dims, Conv[Conv.CONV, spatial_dims]
        encoder = [f"en{k}" for k in range(1, 7)]
        decoder = [f"de{k}" for k in range(5, 0, -1)]
        self.encoder, self.decoder, self.sides = (nn.ModuleDict() for _ in range(3))
        before = in_channels
        for name in encoder:
            self.encoder[name] = RSU(dims, before, stages[name])
            before = stages[name].out
        for name, skip in zip(decoder, reversed(encoder[:-1]), strict=True):
            self.decoder[name] = RSU(dims, before + stages[skip].out, stages[name])
            before = stages[name].out
        for name in ["en6", *decoder]:
            self.sides[name] = conv(stages[name].out, out_channels, 3, padding=1)
        self.pool = Pool[Pool.MAX, dims](2, ceil_mode=True)
        self.fuse = conv(6 * out_channels, out_channels, 1)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits for the image ``x`` ``(B, in_channels, *spatial)``; see the class."""
        logits = self.forward_heads(x)
        if self.training:
            return logits
        return logits[0]

    def forward_heads(self, x: Tensor) -> list[Tensor]:
        """Logits of all seven heads, in training and in eval; they cost nothing but their memory.

        The fused output needs all side outputs, so :meth:`forward` computes no less.
        """
        if not torch.jit.is_scripting():
            self.check_size(x)
        image = x
        maps: list[Tensor] = []
        for stage in self.encoder.values():
            x = stage(self.pool(x) if len(maps) > 0 else x)
            maps.append(x)
        outputs = [maps.pop()]
        for stage in self.decoder.values():
            skip = maps.pop()
            outputs.append(stage(torch.cat([resize_like(outputs[-1], skip), skip], dim=1)))
        logits: list[Tensor] = []
        for k, side in enumerate(self.sides.values()):
            logits.insert(0, resize_like(side(outputs[k]), image))
        fused: Tensor = self.fuse(torch.cat(logits, dim=1))
        logits.insert(0, fused)
        return logits
