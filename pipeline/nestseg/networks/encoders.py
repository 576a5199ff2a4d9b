"""Encoders: any backbone that yields one feature map a level, and the ResNets (He et al. 2016).

The ResNets' weights are torchvision's or MedicalNet's (Chen et al. 2019), name for name. MONAI's
``ResNetEncoder`` and ``FlexibleUNet`` are not used: for ResNet-18 and -34 they take shortcut type
A, which cuts the gradient of the shortcut and knows no torchvision weights.
"""

# No `from __future__ import annotations`: torch.jit.script reads the annotations of modules.
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from monai.networks.layers.factories import Pool
from monai.networks.nets import ResNet
from torch import Tensor, nn
from torch.nn import functional as F

from nestseg.networks.topology import check_choice
from nestseg.networks.weights import load_weights


@runtime_checkable
class Encoder(Protocol):
    """A backbone that yields one feature map a level, the finest first.

    ``forward`` takes ``(B, in_channels, *spatial)``, each axis a multiple of the last stride, and
    returns as many maps as there are ``channels``; map i has ``channels[i]`` channels and is
    smaller than the image by ``strides[i]`` along every axis.

    Attributes:
        channels: of each map.
        strides: of each map against the image, the same along every axis; each equals the one
            before it or is twice as large.
    """

    channels: Sequence[int]
    strides: Sequence[int]

    def __call__(self, x: Tensor) -> list[Tensor]: ...


class Residual(NamedTuple):
    """What tells the ResNets apart.

    Attributes:
        block: ``"basic"`` or ``"bottleneck"``.
        layers: blocks in each of the four layers.
        shortcut: ``"B"`` projects where the channels change, ``"A"`` pads with zeros.
        dilated: layers 3 and 4 dilate by 2 and 4 instead of halving.
    """

    block: str
    layers: tuple[int, int, int, int]
    shortcut: str = "B"
    dilated: bool = False


RESNETS = {
    "resnet18": Residual("basic", (2, 2, 2, 2)),
    "resnet34": Residual("basic", (3, 4, 6, 3)),
    "resnet50": Residual("bottleneck", (3, 4, 6, 3)),
    "resnet101": Residual("bottleneck", (3, 4, 23, 3)),
    "resnet152": Residual("bottleneck", (3, 8, 36, 3)),
}
"""He et al. 2016, table 1."""

MEDICALNETS = {
    "medicalnet10": Residual("basic", (1, 1, 1, 1), "B", dilated=True),
    "medicalnet18": Residual("basic", (2, 2, 2, 2), "A", dilated=True),
    "medicalnet34": Residual("basic", (3, 4, 6, 3), "A", dilated=True),
    "medicalnet50": Residual("bottleneck", (3, 4, 6, 3), "B", dilated=True),
    "medicalnet101": Residual("bottleneck", (3, 4, 23, 3), "B", dilated=True),
    "medicalnet152": Residual("bottleneck", (3, 8, 36, 3), "B", dilated=True),
    "medicalnet200": Residual("bottleneck", (3, 24, 36, 3), "B", dilated=True),
}
"""Chen et al. 2019, with the shortcuts that the authors name for each published file."""

DEPTH = 4
"""Halvings behind the stem's own: features lie at strides 2, 4, 8, 16 and 32."""


class ZeroPadShortcut(nn.Module):
    """Shortcut type A (He et al. 2016, section 3.3): every ``stride``-th voxel, new channels 0."""

    def __init__(self, dims: int, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.pool = Pool[Pool.AVG, dims](1, stride)
        self.padding = [0, 0] * dims + [0, after - before]

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(self.pool(x), self.padding)


class ResNetEncoder(ResNet):
    """A ResNet without its classifier; the stride of a bottleneck sits on its 3-convolution.

    Args:
        name: ``"resnet18"``, ``"resnet34"``, ``"resnet50"``, ``"resnet101"`` or ``"resnet152"``;
            in 3D also ``"medicalnet10"``, … ``"medicalnet200"``, whose last two layers dilate.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        width: channels of the stem; 64 in the paper, and for its weights.
        weights: file of ImageNet weights as torchvision publishes them, or of MedicalNet; default:
            random weights.
        levels: how many maps are wanted; the layers behind them are left out.

    Attributes:
        channels: of the features at strides 2, 4, 8, 16 and 32.
        strides: these; 2, 4, 8, 8 and 8 for a MedicalNet.

    Raises:
        ValueError: an unknown name, or a file whose weights do not fit (the message names it).
    """

    def __init__(
        self,
        name: str,
        spatial_dims: int = 2,
        in_channels: int = 3,
        width: int = 64,
        weights: str | Path | None = None,
        levels: int = DEPTH + 1,
    ) -> None:
        known = RESNETS | (MEDICALNETS if spatial_dims == 3 else {})
        check_choice("encoder", name, known)
        kind = known[name]
        planes = [width * 2**k for k in range(DEPTH)]
        super().__init__(
            kind.block,
            list(kind.layers),
            planes,
            spatial_dims=spatial_dims,
            n_input_channels=in_channels,
            conv1_t_size=7,
            conv1_t_stride=2,
            shortcut_type="B",
            bias_downsample=False,
            feed_forward=False,
        )
        expansion = 4 if kind.block == "bottleneck" else 1
        self.levels = levels
        self.channels = (width, *(expansion * p for p in planes))[:levels]
        self.strides = ((2, 4, 8, 8, 8) if kind.dilated else (2, 4, 8, 16, 32))[:levels]
        self.dilated = kind.dilated
        if kind.dilated:
            _dilate(self.layer3, 2)
            _dilate(self.layer4, 4)
        if kind.shortcut == "A":
            _pad_shortcuts(self, spatial_dims)
        if weights is not None:
            load_weights(self, weights)
        for k in range(levels, DEPTH + 1):
            setattr(self, f"layer{k}", nn.Identity())

    def forward(self, x: Tensor) -> list[Tensor]:  # type: ignore[override]
        """Features of ``x`` ``(B, in_channels, *spatial)``, the finest first."""
        stem = self.stem(x)
        first = self.layer1(self.maxpool(stem))
        second = self.layer2(first)
        third = self.layer3(second)
        return [stem, first, second, third, self.layer4(third)][: self.levels]

    def stem(self, x: Tensor) -> Tensor:
        """The 7-convolution of stride 2 with its norm and activation."""
        out: Tensor = self.act(self.bn1(self.conv1(x)))
        return out


def _dilate(layer: nn.Module, dilation: int) -> None:
    """Make a layer of stride 2 one of stride 1 whose 3-convolutions dilate."""
    for conv in layer.modules():
        if isinstance(conv, nn.modules.conv._ConvNd):
            dims = len(conv.kernel_size)
            conv.stride = (1,) * dims
            if conv.kernel_size[0] == 3:
                conv.dilation = conv.padding = (dilation,) * dims


def _pad_shortcuts(network: nn.Module, dims: int) -> None:
    for block in network.modules():
        if isinstance(projection := getattr(block, "downsample", None), nn.Sequential):
            conv: Any = projection[0]
            channels = conv.in_channels, conv.out_channels
            block.downsample = ZeroPadShortcut(dims, *channels, conv.stride[0])
