"""LinkNet and D-LinkNet: a ResNet encoder, bottleneck decoders, skips that are added.

Chaurasia & Culurciello 2017, "LinkNet: Exploiting Encoder Representations for Efficient Semantic
Segmentation"; Zhou, Zhang, Wu 2018, "D-LinkNet: LinkNet with Pretrained Encoder and Dilated
Convolution for High Resolution Satellite Imagery Road Extraction".
"""

# No `from __future__ import annotations`: torch.jit.script reads the annotations of modules.
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from nestseg.networks.blocks import he_init
from nestseg.networks.encoders import DEPTH, RESNETS, ResNetEncoder
from nestseg.networks.link_blocks import (
    DilatedCentre,
    decoder_block,
    dlinknet_head,
    linknet_head,
)
from nestseg.networks.sized import SizedNetwork
from nestseg.networks.topology import check_choice
from nestseg_prep.geometry import Geometry

PERIOD = 2 ** (DEPTH + 1)


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
        check_choice("encoder", encoder, RESNETS)
        self.encoder = ResNetEncoder(encoder, spatial_dims, in_channels, width, weights)
        stem, c1, c2, c3, c4 = self.encoder.channels
        self.decoder4 = decoder_block(spatial_dims, c4, c3)
        self.decoder3 = decoder_block(spatial_dims, c3, c2)
        self.decoder2 = decoder_block(spatial_dims, c2, c1)
        self.decoder1 = decoder_block(spatial_dims, c1, stem, stride=1)
        self.head = linknet_head(spatial_dims, stem, out_channels)
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
        dilations: of the centre's convolutions; default: 1, 2, 4, 8 and, on a bottleneck encoder,
            16. The paper's LinkNet baseline has none.
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
        dilations: Sequence[int] | None = None,
        width: int = 64,
        weights: str | Path | None = None,
    ) -> None:
        super().__init__(Geometry.same(spatial_dims, period=PERIOD))
        check_choice("encoder", encoder, RESNETS)
        self.encoder = ResNetEncoder(encoder, spatial_dims, in_channels, width, weights)
        _, c1, c2, c3, c4 = self.encoder.channels
        if dilations is None:
            dilations = (1, 2, 4, 8, 16) if RESNETS[encoder].block == "bottleneck" else (1, 2, 4, 8)
        self.centre = DilatedCentre(spatial_dims, c4, dilations)
        self.decoder4 = decoder_block(spatial_dims, c4, c3, bias=True)
        self.decoder3 = decoder_block(spatial_dims, c3, c2, bias=True)
        self.decoder2 = decoder_block(spatial_dims, c2, c1, bias=True)
        self.decoder1 = decoder_block(spatial_dims, c1, c1, bias=True)
        self.head = dlinknet_head(spatial_dims, c1, width // 2, out_channels)
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


def _init_all_but(encoder: nn.Module, network: nn.Module) -> None:
    """The encoder has its own initial weights, perhaps from a file."""
    for part in network.children():
        if part is not encoder:
            he_init(part)
