"""What LinkNet and D-LinkNet are made of: decoder block, dilated centre, heads."""

# No `from __future__ import annotations`: torch.jit.script reads the annotations of modules.
from collections.abc import Sequence

from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn


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


def linknet_head(dims: int, before: int, out_channels: int) -> nn.Sequential:
    """Two twofold up-convolutions with a convolution between them."""
    conv, up, norm = Conv[Conv.CONV, dims], Conv[Conv.CONVTRANS, dims], Norm[Norm.BATCH, dims]
    inner = before // 2
    return nn.Sequential(
        *(up(before, inner, 3, 2, padding=1, output_padding=1), norm(inner), nn.ReLU()),
        *(conv(inner, inner, 3, padding=1), norm(inner), nn.ReLU()),
        up(inner, out_channels, 2, 2),
    )


def dlinknet_head(dims: int, before: int, inner: int, out_channels: int) -> nn.Sequential:
    """One twofold up-convolution and two convolutions, without norms."""
    conv, up = Conv[Conv.CONV, dims], Conv[Conv.CONVTRANS, dims]
    return nn.Sequential(
        *(up(before, inner, 4, 2, padding=1), nn.ReLU()),
        *(conv(inner, inner, 3, padding=1), nn.ReLU()),
        conv(inner, out_channels, 3, padding=1),
    )


def deepglobe_linknet_head(dims: int, before: int, inner: int, out_channels: int) -> nn.Sequential:
    """The head of the LinkNet-34 beside D-LinkNet: unpadded, so that its sizes only just fit.

    n voxels become 2n + 1, 2n - 1 and 2n.
    """
    conv, up = Conv[Conv.CONV, dims], Conv[Conv.CONVTRANS, dims]
    return nn.Sequential(
        *(up(before, inner, 3, 2), nn.ReLU()),
        *(conv(inner, inner, 3), nn.ReLU()),
        conv(inner, out_channels, 2, padding=1),
    )
