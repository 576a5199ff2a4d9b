"""ResFCN: residual blocks with short skips inside a U-shaped net with long skips.

Drozdzal, Vorontsov, Chartrand, Kadoury, Pal 2016, "The Importance of Skip Connections in Biomedical
Image Segmentation". Short skips are the shortcuts of the residual blocks; long skips join the two
paths at equal resolution. The paper asks what each kind does, so each can be left out.

Everything is pre-activation: a "conv" is norm → ReLU → convolution.
"""

# No `from __future__ import annotations`: torch.jit.script reads the annotations of modules.
from collections.abc import Sequence
from typing import NamedTuple

import torch
from monai.networks.layers.factories import Conv, Pool
from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn

from nestseg.networks.blocks import Spec, he_init
from nestseg.networks.sized import SizedNetwork
from nestseg_prep.geometry import Geometry

BLOCKS = ("bottleneck", "basic", "simple")
LONG_SKIPS = ("sum", "sum_to_encoder", "concat", "none")


class Style(NamedTuple):
    """What all blocks of a network share."""

    short_skips: bool
    norm: Spec
    dropout: float


def block_width(kind: str, features: int) -> int:
    """Channels that leave a block of ``features`` filters."""
    return 4 * features if kind == "bottleneck" else features


def activation(dims: int, channels: int, norm: Spec) -> list[nn.Module]:
    """Norm, if any, and ReLU: what stands before every convolution."""
    return [*([get_norm_layer(norm, dims, channels)] if norm else []), nn.ReLU()]


class ResidualBlock(nn.Module):
    """One block of the paper's figure 1, with or without its short skip.

    ``bottleneck``: 1-conv F, 3-conv F, 1-conv 4F. ``basic``: two 3-convs. ``simple``: one 3-conv.
    A block that halves the map does so in its first convolution (``simple``: by max-pooling before
    it); one that doubles it repeats voxels before its last (``simple``: behind it). The shortcut
    drops or repeats voxels alike, and a 1-convolution projects it where the channels change.

    Maps ``(B, before, *spatial)`` to ``(B, block_width(kind, f), *spatial)``, halved or doubled.
    """

    def __init__(
        self, dims: int, before: int, f: int, kind: str, style: Style, *, down: bool, up: bool
    ) -> None:
        super().__init__()
        conv, pool = Conv[Conv.CONV, dims], Pool[Pool.MAX, dims]
        stride, width, norm = 2 if down else 1, block_width(kind, f), style.norm
        act_before, act = activation(dims, before, norm), activation(dims, f, norm)
        double = [nn.Upsample(scale_factor=2.0, mode="nearest")] if up else []
        drop = [nn.Dropout(style.dropout)] if style.dropout else []
        if kind == "bottleneck":
            layers = [*act_before, conv(before, f, 1, stride), *act, conv(f, f, 3, padding=1)]
            layers += [*activation(dims, f, norm), *double, conv(f, width, 1), *drop]
        elif kind == "basic":
            layers = [*act_before, conv(before, f, 3, stride, padding=1), *drop]
            layers += [*act, *double, conv(f, f, 3, padding=1)]
        else:
            halve = [pool(2)] if down else []
            layers = [*act_before, *halve, conv(before, f, 3, padding=1), *drop, *double]
        shortcut = [pool(1, stride=2)] if down else []  # takes every other voxel
        shortcut += [*double, *([conv(before, width, 1)] if before != width else [])]
        self.residual = nn.Sequential(*layers)
        self.shortcut = nn.Sequential(*shortcut) if style.short_skips else None

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.residual(x)
        return out if self.shortcut is None else out + self.shortcut(x)


class LongSkip(nn.Module):
    """Join the decoder's map ``x`` and the encoder's map ``skip``, both ``(B, C, *spatial)``.

    ``"sum"`` projects both to the ``f`` filters of the layers behind it, ``"sum_to_encoder"`` the
    decoder's map to the encoder's channels; a map that has them is left alone. ``"concat"`` stacks
    them, ``"none"`` ignores the encoder's.
    """

    def __init__(self, dims: int, kind: str, decoder: int, encoder: int, f: int) -> None:
        super().__init__()
        self.kind = kind
        sums = {"sum": f, "sum_to_encoder": encoder}
        self.width = sums.get(kind, decoder + encoder if kind == "concat" else decoder)
        conv, width, sums_up = Conv[Conv.CONV, dims], self.width, kind in sums
        self.decoder = conv(decoder, width, 1) if sums_up and decoder != width else nn.Identity()
        self.encoder = conv(encoder, width, 1) if sums_up and encoder != width else nn.Identity()

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        if self.kind == "concat":
            return torch.cat([skip, x], dim=1)
        return x if self.kind == "none" else self.decoder(x) + self.encoder(skip)


class ResFCN(SizedNetwork):
    """The network of Drozdzal et al. 2016, section 2 and table 1; returns logits.

    ``(B, in_channels, *spatial)`` → ``(B, out_channels, *spatial)``.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: classes (with softmax) or labels (with sigmoid).
        features: filters F of the first and last layers and of the first main block; they double
            from one main block to the next on the way down.
        depths: repetitions of the main blocks, down, across and up; of odd length.
        main: kind of the main blocks: ``"bottleneck"``, ``"basic"`` or ``"simple"``.
        short_skips: whether the blocks are residual.
        long_skips: how the two paths are joined; see :class:`LongSkip`.
        norm: norm layer in MONAI's notation; ``None`` for none.
        dropout: probability in every block.

    Raises:
        ValueError: an unknown kind of block or long skip, an even number of depths; in ``forward``,
            a spatial size that is no multiple of ``geometry.period``.
    """

    def __init__(  # noqa: PLR0913  one argument per choice of the paper
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 1,
        features: int = 32,
        depths: Sequence[int] = (3, 8, 10, 3, 10, 8, 3),
        *,
        main: str = "bottleneck",
        short_skips: bool = True,
        long_skips: str = "sum",
        norm: Spec = "batch",
        dropout: float = 0.0,
    ) -> None:
        if main not in BLOCKS or long_skips not in LONG_SKIPS:
            raise ValueError(f"{main!r} must be one of {BLOCKS}, {long_skips!r} of {LONG_SKIPS}")
        if len(depths) % 2 == 0:
            raise ValueError(f"depths {tuple(depths)}: as many must go up as down, and one across")
        half = len(depths) // 2  # the simple block, each main block and the one across halve
        super().__init__(Geometry.same(spatial_dims, period=2 ** (half + 2)))
        dims, conv = spatial_dims, Conv[Conv.CONV, spatial_dims]
        style = Style(short_skips, norm, dropout)

        def stage(x: int, kind: str, f: int, n: int, *, down: bool, up: bool) -> nn.Sequential:
            blocks = nn.Sequential()
            for k in range(n):
                ends = {"down": down and k == 0, "up": up and k == n - 1}
                blocks.append(ResidualBlock(dims, x, f, kind, style, **ends))
                x = block_width(kind, f)
            return blocks

        # Per level above the one across: kind, filters, repetitions down and up.
        levels = [("simple", features, 1, 1)]
        for i, repetitions in enumerate(zip(depths[:half], depths[:half:-1], strict=True)):
            levels.append((main, features * 2**i, *repetitions))
        skips = [features, *(block_width(kind, f) for kind, f, _, _ in levels)]
        self.first = conv(in_channels, features, 3, padding=1)
        self.down = nn.ModuleList(
            stage(x, kind, f, n, down=True, up=False)
            for x, (kind, f, n, _) in zip(skips, levels, strict=False)
        )
        f, n = features * 2**half, depths[half]
        self.across = stage(skips[-1], main, f, n, down=True, up=True)
        self.joins, self.up, x = nn.ModuleList(), nn.ModuleList(), block_width(main, f)
        for (kind, f, _, n), skip in zip(reversed(levels), reversed(skips), strict=False):
            join = LongSkip(dims, long_skips, x, skip, f)
            self.joins.append(join)
            self.up.append(stage(join.width, kind, f, n, down=False, up=True))
            x = block_width(kind, f)
        join = LongSkip(dims, long_skips, x, features, features)
        act = activation(dims, join.width, norm)
        self.joins.append(join)
        self.up.append(nn.Sequential(*act, conv(join.width, features, 3, padding=1)))
        self.head = conv(features, out_channels, 1)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits for the image ``x``; see the class."""
        if not torch.jit.is_scripting():
            self.check_size(x)
        x = self.first(x)
        maps = [x]
        for blocks in self.down:
            x = blocks(x)
            maps.append(x)
        x = self.across(x)
        for join, up in zip(self.joins, self.up):  # noqa: B905  scripted
            x = up(join(x, maps.pop()))
        out: Tensor = self.head(x)
        return out
