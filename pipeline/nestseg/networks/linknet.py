"""LinkNet and D-LinkNet: a ResNet encoder, bottleneck decoders, skips that are added.

Chaurasia & Culurciello 2017, "LinkNet: Exploiting Encoder Representations for Efficient Semantic
Segmentation"; Zhou, Zhang, Wu 2018, "D-LinkNet: LinkNet with Pretrained Encoder and Dilated
Convolution for High Resolution Satellite Imagery Road Extraction".
"""

# No `from __future__ import annotations`: torch.jit.script reads the annotations of modules.
from collections.abc import Sequence
from pathlib import Path

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn

from nestseg.networks.blocks import he_init
from nestseg.networks.encoders import DEPTH, RESNETS, ResNetEncoder
from nestseg.networks.sized import SizedNetwork
from nestseg_prep.geometry import Geometry

PERIOD = 2 ** (DEPTH + 1)


def decoder_block(
    dims: int, before: int, after: int, *, stride: int = 2, bias: bool = False
) -> nn.Sequential:
    """A quarter of the channels, a 3-up-convolution, the new channels (LinkNet, fig. 2).

    Each is followed by batch norm and ReLU. Maps ``(B, before, *spatial)`` to
    ``(B, after, *(stride · spatial))``.
    """
    conv, up, norm = Conv[Conv.CONV, dims], Conv[Conv.CONVTRANS, dims], Norm[Norm.BATCH, dims]
    inner = before // 4
    widen = up(inner, inner, 3, stride, padding=1, output_padding=stride - 1, bias=bias)
    return nn.Sequential(
        *(conv(before, inner, 1, bias=bias), norm(inner), nn.ReLU()),
        *(widen, norm(inner), nn.ReLU()),
        *(conv(inner, after, 1, bias=bias), norm(after), nn.ReLU()),
    )


class LinkNet(SizedNetwork):
    """LinkNet: the input of each encoder layer is added to the output of its decoder.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: classes (with softmax) or labels (with sigmoid).
        encoder: ``"resnet18"`` in the paper; or 34, 50, 101.
        bypass: add the skips; without them it is the paper's ablation, with the same weights.
        width: channels of the encoder's stem.
        weights: file of ImageNet weights for the encoder, as torchvision publishes them.

    Raises:
        ValueError: an unknown encoder, weights that do not fit; in ``forward``, a spatial size that
            is no multiple of 32 (the message names the nearest that are).
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 3,
        out_channels: int = 1,
        encoder: str = "resnet18",
        *,
        bypass: bool = True,
        width: int = 64,
        weights: str | Path | None = None,
    ) -> None:
        super().__init__(Geometry.same(spatial_dims, period=PERIOD))
        self.bypass = bypass
        self.encoder = ResNetEncoder(encoder, spatial_dims, in_channels, width, weights)
        stem, c1, c2, c3, c4 = self.encoder.channels
        self.decoder4 = decoder_block(spatial_dims, c4, c3)
        self.decoder3 = decoder_block(spatial_dims, c3, c2)
        self.decoder2 = decoder_block(spatial_dims, c2, c1)
        self.decoder1 = decoder_block(spatial_dims, c1, stem, stride=1)
        self.head = _linknet_head(spatial_dims, stem, out_channels)
        _init_all_but(self.encoder, self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, out_channels, *spatial)`` for ``x`` ``(B, in_channels, *spatial)``."""
        if not torch.jit.is_scripting():
            self.check_size(x)
        e0 = self.encoder.maxpool(self.encoder.stem(x))
        e1 = self.encoder.layer1(e0)
        e2 = self.encoder.layer2(e1)
        e3 = self.encoder.layer3(e2)
        d4 = self.decoder4(self.encoder.layer4(e3))
        d3 = self.decoder3(d4 + e3 if self.bypass else d4)
        d2 = self.decoder2(d3 + e2 if self.bypass else d3)
        d1 = self.decoder1(d2 + e1 if self.bypass else d2)
        logits: Tensor = self.head(d1 + e0 if self.bypass else d1)
        return logits


class DLinkNet(SizedNetwork):
    """D-LinkNet: LinkNet with dilated convolutions in its centre, and no skip from the stem.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: classes (with softmax) or labels (with sigmoid).
        encoder: ``"resnet34"``, ``"resnet50"`` or ``"resnet101"`` in the paper; or 18.
        width: channels of the encoder's stem.
        weights: file of ImageNet weights for the encoder, as torchvision publishes them.

    Raises:
        ValueError: as :class:`LinkNet`.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 3,
        out_channels: int = 1,
        encoder: str = "resnet34",
        *,
        width: int = 64,
        weights: str | Path | None = None,
    ) -> None:
        super().__init__(Geometry.same(spatial_dims, period=PERIOD))
        self.encoder = ResNetEncoder(encoder, spatial_dims, in_channels, width, weights)
        _, c1, c2, c3, c4 = self.encoder.channels
        dilations = (1, 2, 4, 8, 16) if RESNETS[encoder][0] == "bottleneck" else (1, 2, 4, 8)
        self.centre = DilatedCentre(spatial_dims, c4, dilations)
        self.decoder4 = decoder_block(spatial_dims, c4, c3, bias=True)
        self.decoder3 = decoder_block(spatial_dims, c3, c2, bias=True)
        self.decoder2 = decoder_block(spatial_dims, c2, c1, bias=True)
        self.decoder1 = decoder_block(spatial_dims, c1, c1, bias=True)
        self.head = _dlinknet_head(spatial_dims, c1, width // 2, out_channels)
        _init_all_but(self.encoder, self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, out_channels, *spatial)`` for ``x`` ``(B, in_channels, *spatial)``."""
        if not torch.jit.is_scripting():
            self.check_size(x)
        e1, e2, e3, e4 = self.encoder(x)[1:]
        d4 = self.decoder4(self.centre(e4))
        d3 = self.decoder3(d4 + e3)
        d2 = self.decoder2(d3 + e2)
        logits: Tensor = self.head(self.decoder1(d2 + e1))
        return logits


class DilatedCentre(nn.Module):
    """3-convolutions of growing dilation in a row; the input and every one's output are summed.

    Dilations 1, 2, 4, 8 see 31 voxels per axis (D-LinkNet, section 2 and fig. 3).
    """

    def __init__(self, spatial_dims: int, channels: int, dilations: Sequence[int]) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        self.steps = nn.ModuleList(
            nn.Sequential(conv(channels, channels, 3, padding=d, dilation=d), nn.ReLU())
            for d in dilations
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, channels, *spatial)`` to the same shape."""
        total = x
        for step in self.steps:
            x = step(x)
            total = total + x
        return total


def _init_all_but(encoder: nn.Module, network: nn.Module) -> None:
    """The encoder has its own initial weights, perhaps from a file."""
    for part in network.children():
        if part is not encoder:
            he_init(part)


def _linknet_head(dims: int, before: int, out_channels: int) -> nn.Sequential:
    """Two twofold up-convolutions with a convolution between them."""
    conv, up, norm = Conv[Conv.CONV, dims], Conv[Conv.CONVTRANS, dims], Norm[Norm.BATCH, dims]
    inner = before // 2
    return nn.Sequential(
        *(up(before, inner, 3, 2, padding=1, output_padding=1), norm(inner), nn.ReLU()),
        *(conv(inner, inner, 3, padding=1), norm(inner), nn.ReLU()),
        up(inner, out_channels, 2, 2),
    )


def _dlinknet_head(dims: int, before: int, inner: int, out_channels: int) -> nn.Sequential:
    """One twofold up-convolution and two convolutions, without norms."""
    conv, up = Conv[Conv.CONV, dims], Conv[Conv.CONVTRANS, dims]
    return nn.Sequential(
        *(up(before, inner, 4, 2, padding=1), nn.ReLU()),
        *(conv(inner, inner, 3, padding=1), nn.ReLU()),
        conv(inner, out_channels, 3, padding=1),
    )
