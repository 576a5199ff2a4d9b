"""The U-Net grid: U-Net, U-Net^e, UNet+ and UNet++ as one class whose topology is data.

``X^{i,0} = H(pool(X^{i-1,0}))`` and ``X^{i,j} = H([laterals of level i, up(X^{i+1,j-1})])``
(Zhou et al. 2018, eq. 1). The topologies differ only in which columns the laterals come from and in
which nodes carry a head; a network holds just the nodes that its heads need.
"""

# No `from __future__ import annotations`: torch.jit.script reads the annotations of modules.
from collections.abc import Sequence
from typing import Any

from monai.networks.layers.factories import Conv, Pool
from torch import nn

from nestseg.networks.blocks import Spec, he_init, two_convs
from nestseg.networks.nodes import EncoderNode, GridNetwork, block_style, decoder_node
from nestseg.networks.topology import Node, check_choice, head_columns
from nestseg_prep.geometry import Geometry, GridAxis


class GridUNet(GridNetwork):
    """A U-Net-family network on the grid of nodes X^{i,j}; returns logits.

    In training mode with several heads: a list of ``(B, out_channels, *spatial)``, the deepest head
    first and all cropped to its size; else the deepest head's tensor.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: classes (with softmax) or labels (with sigmoid).
        features: channels of levels 0, 1, …; the depth is one less than their number.
        topology: ``"unet"``, ``"unet_e"`` (shared encoder, a decoder per depth), ``"unet+"`` (short
            skips) or ``"unet++"`` (dense skips).
        heads: columns j of the nodes X^{0,j} with a head; default: the topology's own.
        padding: ``"same"``, or ``"valid"``: no convolution sees made-up voxels, and the output is
            smaller than the input by ``geometry.margin``.
        norm: norm layer in MONAI's notation, e.g. ``"batch"``; ``None`` for none.
        act: activation in MONAI's notation.
        bias: of the convolutions.
        dropout: probability behind each convolution.
        level_dropout: probability behind the last activation of X^{0,0}, X^{1,0}, …, in place: the
            skips carry it too (the release of U-Net 2015); default: none.
        mid_features: channels between the two convolutions of each encoder block; default:
            ``features``.
        pools: by what each pooling divides each axis: ``depth`` entries of ``spatial_dims``
            numbers, 1 or 2; default: 2 everywhere. Thick slices are pooled less often.
        up_channels: channels that the up-convolutions bring into levels 0, 1, …; one fewer than
            ``features``, the default. The 3D U-Net of 2016 and the release of 2015 keep more.
        up_bias: of the transposed convolutions.
        up_act: activation behind them; ``None`` for none.
        up_kernel_size: their kernel, 2 or 4; at 4 their outputs overlap, which takes padding.
        head_kernel_size: kernel of the heads, 1 or 3.

    Raises:
        ValueError: an unknown topology or padding, a head that is not there, a number of channels
            that does not fit the depth; in ``forward``, a spatial size that does not fit (the
            message names the nearest that do).
    """

    def __init__(  # noqa: PLR0913  one argument per choice that the papers made
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 2,
        features: Sequence[int] = (64, 128, 256, 512, 1024),
        topology: str = "unet",
        heads: Sequence[int] | None = None,
        padding: str = "same",
        *,
        norm: Spec = None,
        act: Spec = "relu",
        bias: bool = True,
        dropout: float = 0.0,
        level_dropout: Sequence[float] | None = None,
        mid_features: Sequence[int] | None = None,
        pools: Sequence[Sequence[int]] | None = None,
        up_channels: Sequence[int] | None = None,
        up_bias: bool = True,
        up_act: Spec = None,
        up_kernel_size: int = 2,
        head_kernel_size: int = 1,
    ) -> None:
        depth = len(features) - 1
        columns = head_columns(topology, depth, heads)
        check_choice("padding", padding, ("same", "valid"))
        config: dict[str, Any] = {
            "spatial_dims": spatial_dims,
            "in_channels": in_channels,
            "out_channels": out_channels,
            "features": tuple(features),
            "topology": topology,
            "padding": padding,
            "norm": norm,
            "act": act,
            "bias": bias,
            "dropout": dropout,
            "level_dropout": tuple(level_dropout or [0.0] * (depth + 1)),
            "mid_features": tuple(mid_features or features),
            "pools": tuple(map(tuple, pools or ((2,) * spatial_dims,) * depth)),
            "up_channels": tuple(up_channels or features[:-1]),
            "up_bias": up_bias,
            "up_act": up_act,
            "up_kernel_size": up_kernel_size,
            "head_kernel_size": head_kernel_size,
        }
        if padding == "valid" and (up_kernel_size, head_kernel_size) != (2, 1):
            raise ValueError("a valid network has up-convolutions of 2 and heads of 1")
        for name, length in _lengths(depth).items():
            if len(config[name]) != length:
                raise ValueError(f"{name} wants {length} values, got {config[name]}")
        for factors in config["pools"]:
            if len(factors) != spatial_dims or set(factors) - {1, 2}:
                raise ValueError(f"a pooling wants {spatial_dims} factors of 1 or 2, got {factors}")

        def node(place: Node, nodes: list[Node]) -> nn.Module:
            i, j = place
            if j == 0:
                return _encoder_node(i, nodes, config)
            up_to = config["up_channels"][i]
            stride = config["pools"][i]
            return decoder_node(
                place, nodes, lambda i, _: features[i], up_to, config, stride=stride
            )

        def head() -> nn.Module:
            module: nn.Module = Conv[Conv.CONV, spatial_dims](
                features[0], out_channels, head_kernel_size, padding=head_kernel_size // 2
            )
            return module

        super().__init__(config, _geometry(config["pools"], padding), columns, node, head)
        he_init(self)

    def _config_at(self, level: int) -> dict[str, Any]:
        return {name: self.config[name][:length] for name, length in _lengths(level).items()}


def _lengths(depth: int) -> dict[str, int]:
    """How many values each argument has that is given per level."""
    per_level = {"features": depth + 1, "mid_features": depth + 1, "level_dropout": depth + 1}
    return per_level | {"up_channels": depth, "pools": depth}


def _geometry(pools: Sequence[tuple[int, ...]], padding: str) -> Geometry:
    lost, depth = 4 if padding == "valid" else 0, len(pools)
    losses = (lost,) * (depth + 1), (lost,) * depth
    return Geometry(tuple(GridAxis(p, *losses).geometry() for p in zip(*pools, strict=True)))


def _encoder_node(level: int, nodes: list[Node], config: dict[str, Any]) -> nn.Module:
    dims, features, drop = config["spatial_dims"], config["features"], config["level_dropout"]
    before = features[level - 1] if level else config["in_channels"]
    channels = (before, config["mid_features"][level], features[level])
    block = two_convs(dims, channels, **block_style(config))
    if drop[level]:
        block.append(nn.Dropout(drop[level]))
    pool = Pool[Pool.MAX, dims](config["pools"][level - 1]) if level else nn.Identity()
    return EncoderNode(nodes.index((level - 1, 0)) if level else -1, pool, block)
