"""The U-Nets of nnU-Net, with its parameter names: a checkpoint of nnU-Net v2 loads strictly.

Isensee, Jaeger, Kohl, Petersen, Maier-Hein 2021, "nnU-Net: a self-configuring method for deep
learning-based biomedical image segmentation"; the residual encoder is that of Isensee, Wald,
Ulrich et al. 2024, "nnU-Net Revisited". MONAI's ``DynUNet`` has other blocks and other names.
"""

# No `from __future__ import annotations`: torch.jit.script reads the annotations of modules.
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from monai.networks.layers.factories import Conv, Pool
from monai.networks.layers.utils import get_act_layer, get_dropout_layer, get_norm_layer
from torch import Tensor, nn

from nestseg.networks.blocks import Spec
from nestseg.networks.sized import SizedNetwork
from nestseg.networks.u2net import resize_like
from nestseg_prep.geometry import AxisGeometry, Geometry

INSTANCE: Spec = ("instance", {"eps": 1e-5, "affine": True})
LEAKY: Spec = ("leakyrelu", {"negative_slope": 0.01, "inplace": True})


class Style:
    """What all convolutions of a network have in common.

    Args:
        spatial_dims: 2 or 3.
        bias: of the convolutions.
        norm: as MONAI's factories take it; ``None`` for none.
        act: likewise.
        dropout: probability, in training, in front of each norm.
        act_first: whether the activation comes before the norm.
    """

    def __init__(
        self,
        spatial_dims: int,
        *,
        bias: bool = True,
        norm: Spec = INSTANCE,
        act: Spec = LEAKY,
        dropout: float = 0.0,
        act_first: bool = False,
    ) -> None:
        self.dims, self.bias, self.norm, self.act = spatial_dims, bias, norm, act
        self.dropout, self.act_first = dropout, act_first


class ConvBlock(nn.Module):
    """A convolution, dropout, norm and activation; ``(B, before, …)`` → ``(B, after, …)``.

    Args:
        style: of the network.
        channels: before and behind.
        kernel: of odd size along each axis.
        stride: along each axis.
        bare: whether there is neither dropout nor an activation.
        bias: of the convolution; default: the style's.
    """

    def __init__(
        self,
        style: Style,
        channels: tuple[int, int],
        kernel: Sequence[int],
        stride: Sequence[int],
        *,
        bare: bool = False,
        bias: bool | None = None,
    ) -> None:
        super().__init__()
        before, after = channels
        self.conv = Conv[Conv.CONV, style.dims](
            before,
            after,
            tuple(kernel),
            stride=tuple(stride),
            padding=tuple((size - 1) // 2 for size in kernel),
            bias=style.bias if bias is None else bias,
        )
        drops = style.dropout > 0 and not bare
        dropout = ("dropout", {"p": style.dropout})
        self.dropout = get_dropout_layer(dropout, style.dims) if drops else nn.Identity()
        self.norm = (
            nn.Identity() if style.norm is None else get_norm_layer(style.norm, style.dims, after)
        )
        self.nonlin = nn.Identity() if style.act is None or bare else get_act_layer(style.act)
        self.act_first = style.act_first

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(self.conv(x))
        out: Tensor = self.norm(self.nonlin(x)) if self.act_first else self.nonlin(self.norm(x))
        return out


class ConvBlocks(nn.Module):
    """Several :class:`ConvBlock`, the first of them with a stride."""

    def __init__(
        self,
        style: Style,
        channels: tuple[int, int],
        kernel: Sequence[int],
        stride: Sequence[int],
        count: int,
    ) -> None:
        super().__init__()
        before, after = channels
        ones = (1,) * style.dims
        blocks = [ConvBlock(style, (before, after), kernel, stride)]
        blocks += [ConvBlock(style, (after, after), kernel, ones) for _ in range(1, count)]
        self.convs = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.convs(x)
        return out


class ResidualBlock(nn.Module):
    """The basic block of ResNet-D (He et al. 2019, "Bag of Tricks", figure 2c)."""

    def __init__(
        self,
        style: Style,
        channels: tuple[int, int],
        kernel: Sequence[int],
        stride: Sequence[int],
    ) -> None:
        super().__init__()
        before, after = channels
        ones = (1,) * style.dims
        self.conv1 = ConvBlock(style, (before, after), kernel, stride)
        self.conv2 = ConvBlock(style, (after, after), kernel, ones, bare=True)
        self.nonlin2 = nn.Identity() if style.act is None else get_act_layer(style.act)
        skip: list[nn.Module] = []
        if prod(stride) > 1:
            skip.append(Pool[Pool.AVG, style.dims](tuple(stride), tuple(stride)))
        if before != after:
            skip.append(ConvBlock(style, channels, ones, ones, bare=True, bias=False))
        self.skip = nn.Sequential(*skip)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.nonlin2(self.conv2(self.conv1(x)) + self.skip(x))
        return out


class ResidualBlocks(nn.Module):
    """Several :class:`ResidualBlock`, the first of them with a stride."""

    def __init__(
        self,
        style: Style,
        channels: tuple[int, int],
        kernel: Sequence[int],
        stride: Sequence[int],
        count: int,
    ) -> None:
        super().__init__()
        before, after = channels
        ones = (1,) * style.dims
        blocks = [ResidualBlock(style, (before, after), kernel, stride)]
        blocks += [ResidualBlock(style, (after, after), kernel, ones) for _ in range(1, count)]
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(x)
        return out


class Encoder(nn.Module):
    """Stages from fine to coarse; gives the map of each."""

    def __init__(self, stem: nn.Module, stages: Sequence[nn.Module]) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        maps: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class Decoder(nn.Module):
    """Stages from coarse to fine, each with a head."""

    def __init__(
        self,
        style: Style,
        features: Sequence[int],
        kernels: Sequence[Sequence[int]],
        strides: Sequence[Sequence[int]],
        convs: Sequence[int],
        classes: int,
    ) -> None:
        super().__init__()
        ones = (1,) * style.dims
        self.stages, self.transpconvs, self.seg_layers = (nn.ModuleList() for _ in range(3))
        for level, count in zip(reversed(range(len(convs))), convs, strict=True):
            width, step = features[level], tuple(strides[level + 1])
            self.transpconvs.append(
                Conv[Conv.CONVTRANS, style.dims](
                    features[level + 1], width, step, stride=step, bias=style.bias
                )
            )
            self.stages.append(ConvBlocks(style, (2 * width, width), kernels[level], ones, count))
            self.seg_layers.append(Conv[Conv.CONV, style.dims](width, classes, 1))

    def forward(self, maps: list[Tensor], every: bool) -> list[Tensor]:
        """Logits from fine to coarse, or of the finest head alone."""
        x = maps.pop()
        logits: list[Tensor] = []
        last = len(self.stages) - 1
        for k, (up, stage, head) in enumerate(
            zip(self.transpconvs, self.stages, self.seg_layers, strict=True)
        ):
            x = stage(torch.cat([up(x), maps.pop()], dim=1))
            if every or k == last:
                logits.insert(0, head(x))
        return logits


class NnUNet(SizedNetwork):
    """What both networks have in common: an encoder, a decoder, and a head at each of its levels.

    In training it returns a list: the finest head first, the others resampled to its size. In eval
    it returns the finest alone, as nnU-Net does when it predicts.

    ``load_state_dict`` takes nnU-Net's own state dict: the names under which nnU-Net stores a
    tensor again are dropped once they were found equal.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        strides: Sequence[Sequence[int]],
        *,
        deep_supervision: bool,
    ) -> None:
        periods = (prod(along) for along in zip(*strides, strict=True))
        super().__init__(Geometry(tuple(AxisGeometry(0, n, 0, n) for n in periods)))
        self.encoder = encoder
        self.decoder = decoder
        self.deep_supervision = deep_supervision
        for module in self.modules():
            if isinstance(module, nn.modules.conv._ConvNd):
                nn.init.kaiming_normal_(module.weight, a=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits for the image ``x`` ``(B, in_channels, *spatial)``; see the class.

        Raises:
            ValueError: a spatial size that does not fit; the message names the nearest that do.
        """
        if self.training and self.deep_supervision:
            return self.forward_heads(x)
        return self._logits(x, False)[0]

    def forward_heads(self, x: Tensor) -> list[Tensor]:
        """Logits of every head at the size of ``x``, the finest first."""
        logits = self._logits(x, True)
        return [logits[0]] + [resize_like(coarse, logits[0]) for coarse in logits[1:]]

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        ours = [name for name in state_dict if name.startswith(prefix)]
        kept = without_aliases({name: state_dict[name] for name in ours})
        for name in ours:
            if name not in kept:
                del state_dict[name]
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _logits(self, x: Tensor, every: bool) -> list[Tensor]:
        if not torch.jit.is_scripting():
            self.check_size(x)
        logits: list[Tensor] = self.decoder(self.encoder(x), every)
        return logits


class PlainConvUNet(NnUNet):
    """nnU-Net's U-Net: strided convolutions down, transposed ones up.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: classes (with softmax) or regions (with sigmoid).
        features: channels of each stage, from fine to coarse.
        strides: of each stage, per axis; ones for the first.
        kernels: of each stage, per axis; default: 3 everywhere.
        convs: convolutions in each stage of the encoder.
        decoder_convs: in each stage of the decoder, from coarse to fine; one fewer.
        bias: of the convolutions.
        norm: as MONAI's factories take it.
        act: likewise.
        dropout: probability, in training.
        act_first: whether activations come before norms.
        deep_supervision: whether all heads are returned in training.
    """

    def __init__(  # noqa: PLR0913  one argument for each of nnU-Net's
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        features: Sequence[int],
        strides: Sequence[Sequence[int]],
        kernels: Sequence[Sequence[int]] | None = None,
        *,
        convs: Sequence[int] | None = None,
        decoder_convs: Sequence[int] | None = None,
        bias: bool = True,
        norm: Spec = INSTANCE,
        act: Spec = LEAKY,
        dropout: float = 0.0,
        act_first: bool = False,
        deep_supervision: bool = True,
    ) -> None:
        style = Style(
            spatial_dims, bias=bias, norm=norm, act=act, dropout=dropout, act_first=act_first
        )
        depth = len(features)
        kernels = kernels or ((3,) * spatial_dims,) * depth
        convs, decoder_convs = convs or (2,) * depth, decoder_convs or (2,) * (depth - 1)
        widths = [in_channels, *features]
        stages = [
            # nnU-Net wraps each stage once more
            nn.Sequential(ConvBlocks(style, (before, after), kernel, stride, count))
            for before, after, kernel, stride, count in zip(
                widths, features, kernels, strides, convs, strict=False
            )
        ]
        decoder = Decoder(style, features, kernels, strides, decoder_convs, out_channels)
        encoder = Encoder(nn.Identity(), stages)
        super().__init__(encoder, decoder, strides, deep_supervision=deep_supervision)


class ResidualEncoderUNet(NnUNet):
    """nnU-Net's U-Net with a ResNet-D as its encoder.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: classes (with softmax) or regions (with sigmoid).
        features: channels of each stage, from fine to coarse.
        strides: of each stage, per axis; ones for the first.
        kernels: of each stage, per axis; default: 3 everywhere.
        blocks: residual blocks in each stage of the encoder.
        decoder_convs: convolutions in each stage of the decoder, from coarse to fine; one fewer.
        stem_channels: behind the first convolution; default: as in the first stage.
        bias: of the convolutions.
        norm: as MONAI's factories take it.
        act: likewise.
        dropout: probability, in training.
        deep_supervision: whether all heads are returned in training.
    """

    def __init__(  # noqa: PLR0913  one argument for each of nnU-Net's
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        features: Sequence[int],
        strides: Sequence[Sequence[int]],
        kernels: Sequence[Sequence[int]] | None = None,
        *,
        blocks: Sequence[int] | None = None,
        decoder_convs: Sequence[int] | None = None,
        stem_channels: int | None = None,
        bias: bool = True,
        norm: Spec = INSTANCE,
        act: Spec = LEAKY,
        dropout: float = 0.0,
        deep_supervision: bool = True,
    ) -> None:
        style = Style(spatial_dims, bias=bias, norm=norm, act=act, dropout=dropout)
        depth = len(features)
        kernels = kernels or ((3,) * spatial_dims,) * depth
        blocks, decoder_convs = blocks or (2,) * depth, decoder_convs or (1,) * (depth - 1)
        widths = [stem_channels or features[0], *features]
        stem = ConvBlocks(style, (in_channels, widths[0]), kernels[0], (1,) * spatial_dims, 1)
        stages = [
            ResidualBlocks(style, (before, after), kernel, stride, count)
            for before, after, kernel, stride, count in zip(
                widths, features, kernels, strides, blocks, strict=False
            )
        ]
        decoder = Decoder(style, features, kernels, strides, decoder_convs, out_channels)
        super().__init__(Encoder(stem, stages), decoder, strides, deep_supervision=deep_supervision)
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                for name, weight in module.conv2.norm.named_parameters():
                    if name == "weight":
                        nn.init.zeros_(weight)


def without_aliases(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of nnU-Net with each tensor under one name.

    nnU-Net registers the encoder in the decoder again, and each convolution in a list.

    Raises:
        ValueError: two tensors differ that must be one.
    """
    own = {name: value for name, value in state.items() if not _is_alias(name)}
    for name in filter(_is_alias, state):
        places = _places(name)
        if not any(place in own and torch.equal(own[place], state[name]) for place in places):
            raise ValueError(f"{name} is not the tensor that it repeats")
    return own


def _is_alias(name: str) -> bool:
    return "decoder.encoder." in name or ".all_modules." in name


def _places(name: str) -> list[str]:
    """Where a tensor may stand that nnU-Net stores again: the list does not say of which layer."""
    name = name.replace("decoder.encoder.", "encoder.")
    head, found, tail = name.partition(".all_modules.")
    if not found:
        return [name]
    return [f"{head}.{layer}.{tail.partition('.')[2]}" for layer in ("conv", "norm", "nonlin")]
