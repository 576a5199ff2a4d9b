"""The U-Net grids of the papers by name.

``width`` is the number of channels at level 0; each further level has twice as many.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from nestseg.networks.grid import GridUNet
from nestseg.networks.topology import check_choice


def doubling(width: int, levels: int) -> tuple[int, ...]:
    """Channels of ``levels`` levels, each with twice those of the one above."""
    return tuple(width * 2**level for level in range(levels))


def unet_2015(
    in_channels: int = 1,
    out_channels: int = 2,
    padding: str = "valid",
    *,
    variant: str = "paper",
    width: int = 64,
    spatial_dims: int = 2,
) -> GridUNet:
    """U-Net (Ronneberger et al. 2015, fig. 1): 31,030,658 parameters, 572² → 388².

    Args:
        in_channels: channels of the image.
        out_channels: classes.
        padding: ``"valid"`` as in the paper, or ``"same"``.
        variant: ``"paper"``, or ``"release"``: the authors' Caffe network ``phseg_v5``, with
            31,100,354 parameters. There the last up-convolution keeps its 128 channels, a ReLU
            follows each up-convolution, and the two deepest levels end in dropout of 0.5, of which
            the upper one is in the skip as well.
        width: 64 in the paper; 32 gives 7,759,554 parameters and 16 gives 1,940,834.
        spatial_dims: 2 in the paper, or 3.

    Raises:
        ValueError: an unknown variant or padding.
    """
    check_choice("variant", variant, ("paper", "release"))
    features = doubling(width, 5)
    release: dict[str, Any] = {
        "up_channels": (2 * width, *features[1:4]),
        "up_act": "relu",
        "level_dropout": (0.0, 0.0, 0.0, 0.5, 0.5),
    }
    return GridUNet(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=out_channels,
        features=features,
        padding=padding,
        **(release if variant == "release" else {}),
    )


def unet3d_2016(
    in_channels: int = 3,
    out_channels: int = 3,
    padding: str = "valid",
    *,
    affine: bool = False,
    width: int = 64,
) -> GridUNet:
    """3D U-Net (Çiçek et al. 2016, fig. 2): 132×132×116 → 44×44×28.

    Channels double before each pool and up-convolutions keep theirs.

    Args:
        in_channels: channels of the image.
        out_channels: classes.
        padding: ``"valid"`` as in the paper, or ``"same"``.
        affine: scale and shift in the batch norms. The paper's count, 19,069,955, is without.
        width: 64 in the paper.
    """
    norm = ("batch", {"affine": affine})
    return _unet3d(in_channels, out_channels, width, padding=padding, up_bias=False, norm=norm)


def unet_l(
    level: int,
    spatial_dims: int = 2,
    in_channels: int = 1,
    out_channels: int = 1,
    *,
    width: int = 32,
) -> GridUNet:
    """U-Net L1, …, L4: the U-Net of ``level`` halvings that UNet++ holds one of at every level.

    Parameters: 100,961, 465,953, 1,925,025 and 7,759,521 (Zhou et al. 2018).
    """
    return GridUNet(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=out_channels,
        features=doubling(width, level + 1),
    )


def unet_keras(
    spatial_dims: int = 2, in_channels: int = 1, out_channels: int = 1, *, width: int = 32
) -> GridUNet:
    """The 'same' U-Net of many Keras notebooks, 7,759,521 parameters; weights start as in Keras.

    Glorot's uniform distribution, which Keras takes where nothing else is said; biases at 0.
    """
    network = unet_l(4, spatial_dims, in_channels, out_channels, width=width)
    for name, parameter in network.named_parameters():
        if name.endswith("weight"):
            nn.init.xavier_uniform_(parameter)
    return network


def wide_unet_2018(
    spatial_dims: int = 2, in_channels: int = 1, out_channels: int = 1, *, width: int = 35
) -> GridUNet:
    """Wide U-Net (Zhou et al. 2018), as large as UNet++: 9,282,246 parameters."""
    return unet_l(4, spatial_dims, in_channels, out_channels, width=width)


def unet_e_2020(
    spatial_dims: int = 2, in_channels: int = 1, out_channels: int = 1, *, width: int = 32
) -> GridUNet:
    """U-Net^e (Zhou et al. 2020): one encoder, a decoder for each depth; 8,728,356 parameters.

    The decoders are not connected: a loss on the last head alone leaves six nodes untrained.
    """
    return _nested("unet_e", spatial_dims, in_channels, out_channels, width)


def unet_plus_2020(
    spatial_dims: int = 2, in_channels: int = 1, out_channels: int = 1, *, width: int = 32
) -> GridUNet:
    """UNet+ (Zhou et al. 2020): short skips alone; 8,728,356 parameters with its four heads."""
    return _nested("unet+", spatial_dims, in_channels, out_channels, width)


def unetpp_2018(
    spatial_dims: int = 2,
    in_channels: int = 1,
    out_channels: int = 1,
    dropout: float = 0.0,
    *,
    width: int = 32,
) -> GridUNet:
    """UNet++ with deep supervision (Zhou et al. 2018): 9,041,700 parameters with its four heads.

    ``dropout`` stands behind each convolution; the authors' code has 0.5.
    """
    return _nested("unet++", spatial_dims, in_channels, out_channels, width, dropout=dropout)


def unetpp_monai(
    spatial_dims: int = 3,
    in_channels: int = 1,
    out_channels: int = 2,
    features: Sequence[int] = (32, 32, 64, 128, 256),
) -> GridUNet:
    """UNet++ as MONAI's ``BasicUNetPlusPlus`` has it by default; takes its weights.

    It differs from the paper in its up-convolutions, norms and activations, and in its widths.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: classes (with softmax) or labels (with sigmoid).
        features: channels of the five levels. MONAI takes a sixth number, which must be the first.
    """
    return GridUNet(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=out_channels,
        features=features,
        topology="unet++",
        up_channels=(features[1], *(width // 2 for width in features[2:])),
        norm=("instance", {"affine": True}),
        act=("leakyrelu", {"negative_slope": 0.1}),
    )


def unet3d_genesis_2019(
    in_channels: int = 1, out_channels: int = 1, *, width: int = 64
) -> GridUNet:
    """The 3D U-Net of Models Genesis (Zhou et al. 2019); takes the file ``Genesis_Chest_CT.pt``.

    The authors' norm takes its statistics from the batch in prediction too. For one image at a time
    that is instance norm, which is used here: an image's mask does not depend on the others.

    Args:
        in_channels: channels of the image.
        out_channels: classes (with softmax) or labels (with sigmoid).
        width: 64 in the paper, and for its weights.
    """
    return _unet3d(in_channels, out_channels, width, norm=("instance", {"affine": True}))


def unet_deepglobe_2018(in_channels: int = 3, out_channels: int = 1, *, width: int = 8) -> GridUNet:
    """The U-Net of seven pools that D-LinkNet is compared with: 39,500,929 parameters.

    From the authors' code (Zhou, Zhang, Wu 2018); the paper does not describe it.
    """
    return GridUNet(
        spatial_dims=2,
        in_channels=in_channels,
        out_channels=out_channels,
        features=doubling(width, 8),
        up_kernel_size=4,
        up_bias=False,
        up_act="relu",
        head_kernel_size=3,
    )


def _unet3d(in_channels: int, out_channels: int, width: int, **more: Any) -> GridUNet:
    features = doubling(width, 4)
    return GridUNet(
        spatial_dims=3,
        in_channels=in_channels,
        out_channels=out_channels,
        features=features,
        mid_features=doubling(width // 2, 4),
        up_channels=features[1:],
        **more,
    )


def _nested(
    topology: str, spatial_dims: int, in_channels: int, out_channels: int, width: int, **more: Any
) -> GridUNet:
    return GridUNet(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=out_channels,
        features=doubling(width, 5),
        topology=topology,
        **more,
    )
