"""The networks of the papers by name: the body of each builder is its paper's table."""

from __future__ import annotations

from nestseg.networks.fcn import FCN
from nestseg.networks.fovea import Fovea
from nestseg.networks.grid import GridUNet
from nestseg.networks.resfcn import ResFCN
from nestseg.networks.u2net import FULL, LITE, U2Net
from nestseg.networks.window import WindowNet


def unet_2015(in_channels: int = 1, out_channels: int = 2, padding: str = "valid") -> GridUNet:
    """U-Net (Ronneberger et al. 2015, fig. 1): 31,030,658 parameters, 572² → 388²."""
    return GridUNet(
        spatial_dims=2,
        in_channels=in_channels,
        out_channels=out_channels,
        features=(64, 128, 256, 512, 1024),
        padding=padding,
    )


def unet3d_2016(
    in_channels: int = 3, out_channels: int = 3, padding: str = "valid", *, affine: bool = False
) -> GridUNet:
    """3D U-Net (Çiçek et al. 2016, fig. 2): 132×132×116 → 44×44×28.

    Channels double before each pool and up-convolutions keep theirs.

    Args:
        in_channels: channels of the image.
        out_channels: classes.
        padding: ``"valid"`` as in the paper, or ``"same"``.
        affine: scale and shift in the batch norms. The paper's count, 19,069,955, is without.
    """
    return GridUNet(
        spatial_dims=3,
        in_channels=in_channels,
        out_channels=out_channels,
        features=(64, 128, 256, 512),
        mid_features=(32, 64, 128, 256),
        up_channels="keep",
        up_bias=False,
        norm=("batch", {"affine": affine}),
        padding=padding,
    )


def unetpp_2018(
    spatial_dims: int = 2, in_channels: int = 1, out_channels: int = 1, dropout: float = 0.0
) -> GridUNet:
    """UNet++ with deep supervision (Zhou et al. 2018): 9,041,700 parameters with its four heads."""
    return GridUNet(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=out_channels,
        features=(32, 64, 128, 256, 512),
        topology="unet++",
        dropout=dropout,
    )


# --- networks that are no U-Net grid ----------------------------------------------------------


def resfcn_2016(in_channels: int = 1, out_channels: int = 1, dropout: float = 0.0) -> ResFCN:
    """ResFCN (Drozdzal et al. 2016, table 1): 11,042,273 parameters, "11M"."""
    return ResFCN(
        spatial_dims=2,
        in_channels=in_channels,
        out_channels=out_channels,
        features=32,
        depths=(3, 8, 10, 3, 10, 8, 3),
        main="bottleneck",
        dropout=dropout,
    )


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
