"""Building blocks that the networks share."""

# No `from __future__ import annotations`: torch.jit.script reads the annotations of modules.

from collections.abc import Sequence
from itertools import pairwise

from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

Spec = str | tuple[str, dict[str, object]] | None
"""A norm or activation in MONAI's notation: a name, or ``(name, arguments)``."""


def center_crop(x: Tensor, like: Tensor) -> Tensor:
    """Crop ``x`` ``(B, C, *spatial)`` centrally to the spatial shape of ``like``."""
    for dim in range(2, x.dim()):
        size = like.size(dim)
        x = x.narrow(dim, (x.size(dim) - size) // 2, size)
    return x


def two_convs(
    spatial_dims: int,
    channels: tuple[int, int, int],
    *,
    padding: str,
    norm: Spec,
    act: Spec,
    bias: bool,
    dropout: float,
) -> nn.Sequential:
    """Two 3-convolutions, each followed by norm, activation and dropout: H of the UNet++ paper.

    Args:
        spatial_dims: 2 or 3.
        channels: before, between and behind the two convolutions.
        padding: ``"same"``, or ``"valid"`` (the block then loses 4 voxels per axis).
        norm: as MONAI's factories take it; ``None`` for none.
        act: likewise.
        bias: of the convolutions.
        dropout: probability, applied behind each activation.
    """
    return nn.Sequential(
        *(
            Convolution(
                spatial_dims,
                a,
                b,
                kernel_size=3,
                padding=0 if padding == "valid" else 1,
                adn_ordering="NAD",
                norm=norm,
                act=act,
                bias=bias,
                dropout=dropout or None,
            )
            for a, b in pairwise(channels)
        )
    )


def up_conv(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    *,
    stride: Sequence[int] = (),
    kernel_size: int = 2,
    bias: bool,
) -> nn.Module:
    """An up-convolution by 2, linear; the U-Net's has a kernel of 2, whose outputs do not overlap.

    Args:
        spatial_dims: 2 or 3.
        in_channels: before.
        out_channels: behind.
        stride: per axis, 1 or 2; default: 2 along every axis.
        kernel_size: even; along an axis of stride 1 it is 1.
        bias: whether it has one.
    """
    steps = tuple(stride) or (2,) * spatial_dims
    kernel = tuple(kernel_size if step == 2 else 1 for step in steps)
    padding = tuple((size - step) // 2 for size, step in zip(kernel, steps, strict=True))
    module: nn.Module = Conv[Conv.CONVTRANS, spatial_dims](
        in_channels, out_channels, kernel, stride=steps, padding=padding, bias=bias
    )
    return module


def he_init(module: nn.Module) -> None:
    """N(0, sqrt(2 / fan_in)) for every convolution, bias 0 (U-Net 2015, section 3)."""
    for m in module.modules():
        if isinstance(m, nn.modules.conv._ConvNd):
            nn.init.kaiming_normal_(m.weight, mode="fan_in", nonlinearity="relu")
            if m.bias is not None:
                nn.init.zeros_(m.bias)
