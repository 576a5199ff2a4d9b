"""The papers' networks that are no U-Net grid, by name."""

from __future__ import annotations

from nestseg.networks.blocks import he_init
from nestseg.networks.fcn import FCN
from nestseg.networks.fovea import Fovea
from nestseg.networks.link_blocks import deepglobe_linknet_head
from nestseg.networks.linknet import DLinkNet
from nestseg.networks.nnunet import PlainConvUNet, ResidualEncoderUNet
from nestseg.networks.resfcn import ResFCN
from nestseg.networks.u2net import FULL, LITE, U2Net
from nestseg.networks.window import WindowNet


def linknet_deepglobe_2018(
    spatial_dims: int = 2, in_channels: int = 3, out_channels: int = 1, *, width: int = 64
) -> DLinkNet:
    """The LinkNet-34 that D-LinkNet is compared with: 21,642,401 parameters.

    Its decoder is D-LinkNet's, its head is its own (authors' code of Zhou, Zhang, Wu 2018).
    """
    network = DLinkNet(
        spatial_dims, in_channels, out_channels, "resnet34", dilations=(), width=width
    )
    network.head = deepglobe_linknet_head(spatial_dims, width, width // 2, out_channels)
    he_init(network.head)
    return network


def resfcn_2016(
    spatial_dims: int = 2, in_channels: int = 1, out_channels: int = 1, dropout: float = 0.0
) -> ResFCN:
    """ResFCN (Drozdzal et al. 2016, table 1): 11,042,273 parameters, "11M"."""
    return ResFCN(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=out_channels,
        features=32,
        depths=(3, 8, 10, 3, 10, 8, 3),
        main="bottleneck",
        dropout=dropout,
    )


def nnunet_2021(
    spatial_dims: int = 3, in_channels: int = 1, out_channels: int = 2, *, width: int = 32
) -> PlainConvUNet:
    """The U-Net that nnU-Net plans for large images (Isensee et al. 2021, figure 2).

    Six stages up to ``10 * width`` channels in 3D, eight up to ``16 * width`` in 2D.
    """
    features = _nnunet_features(spatial_dims, width)
    strides = [(1 if stage == 0 else 2,) * spatial_dims for stage in range(len(features))]
    return PlainConvUNet(spatial_dims, in_channels, out_channels, features, strides)


def nnunet_resenc_2024(
    spatial_dims: int = 3, in_channels: int = 1, out_channels: int = 2, *, width: int = 32
) -> ResidualEncoderUNet:
    """The same with a residual encoder (Isensee et al. 2024, ResEnc M and L)."""
    features = _nnunet_features(spatial_dims, width)
    strides = [(1 if stage == 0 else 2,) * spatial_dims for stage in range(len(features))]
    blocks = (1, 3, 4, 6, 6, 6, 6, 6)[: len(features)]
    return ResidualEncoderUNet(
        spatial_dims, in_channels, out_channels, features, strides, blocks=blocks
    )


def _nnunet_features(spatial_dims: int, width: int) -> tuple[int, ...]:
    most, stages = (10, 6) if spatial_dims == 3 else (16, 8)
    return tuple(width * min(2**stage, most) for stage in range(stages))


def ciresan_2012(
    in_channels: int = 1, out_channels: int = 2, fovea: Fovea | None = None
) -> WindowNet:
    """Window net N4 (Cireşan et al. 2012, table 1): 95-voxel windows, 219,290 parameters."""
    return WindowNet(
        spatial_dims=2,
        in_channels=in_channels,
        out_channels=out_channels,
        window=95,
        convs=(4, 5, 4, 4),
        features=48,
        hidden=200,
        act="tanh",
        fovea=fovea,
    )


def fcn32s_2015(in_channels: int = 3, out_channels: int = 21, dropout: float = 0.5) -> FCN:
    """FCN-32s (Long et al. 2015, section 4.1): 136,152,917 parameters, the kernels included."""
    return FCN(in_channels, out_channels, stride=32, dropout=dropout)


def fcn16s_2015(in_channels: int = 3, out_channels: int = 21, dropout: float = 0.5) -> FCN:
    """FCN-16s (Long et al. 2015, section 4.2): 134,815,994 parameters, the kernels included."""
    return FCN(in_channels, out_channels, stride=16, dropout=dropout)


def fcn8s_2015(in_channels: int = 3, out_channels: int = 21, dropout: float = 0.5) -> FCN:
    """FCN-8s (Long et al. 2015, section 4.2): 134,489,759 parameters, the kernels included."""
    return FCN(in_channels, out_channels, stride=8, dropout=dropout)


def u2net_2020(spatial_dims: int = 2, in_channels: int = 3, out_channels: int = 1) -> U2Net:
    """U²-Net (Qin et al. 2020, table 1 and figure 5): 44,009,869 parameters, 176.3 MB."""
    return U2Net(spatial_dims, in_channels, out_channels, stages=FULL)


def u2net_lite_2020(spatial_dims: int = 2, in_channels: int = 3, out_channels: int = 1) -> U2Net:
    """U²-Net† (Qin et al. 2020, table 1): 1,131,181 parameters, 4.7 MB."""
    return U2Net(spatial_dims, in_channels, out_channels, stages=LITE)
