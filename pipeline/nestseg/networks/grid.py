"""The U-Net grid: U-Net, U-Net^e, UNet+ and UNet++ as one class whose topology is data.

Node X^{i,j} sits at level i (resolution 1/2^i) and decoder column j; j = 0 is the encoder:
``X^{i,0} = H(pool(X^{i-1,0}))`` and ``X^{i,j} = H([laterals of level i, up(X^{i+1,j-1})])``
(Zhou et al. 2018, eq. 1). The topologies differ only in which columns the laterals come from and in
which nodes carry a head; a network holds just the nodes that its heads need.
"""

# No `from __future__ import annotations`: torch.jit.script reads the annotations of modules.
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn

from nestseg.networks.blocks import Spec, center_crop, he_init, two_convs, up_conv
from nestseg_prep.geometry import Geometry, GridAxis

Node = tuple[int, int]


@dataclass(frozen=True)
class Topology:
    """Which lateral maps a decoder node takes, and which nodes carry a head by default.

    Attributes:
        laterals: decoder column j → columns of the same level that are concatenated.
        heads: depth → columns j of the nodes X^{0,j} with a head.
    """

    laterals: Callable[[int], tuple[int, ...]]
    heads: Callable[[int], tuple[int, ...]]


TOPOLOGIES = {
    "unet": Topology(laterals=lambda j: (0,), heads=lambda depth: (depth,)),
    "unet_e": Topology(laterals=lambda j: (0,), heads=lambda depth: tuple(range(1, depth + 1))),
    "unet+": Topology(laterals=lambda j: (j - 1,), heads=lambda depth: tuple(range(1, depth + 1))),
    "unet++": Topology(
        laterals=lambda j: tuple(range(j)), heads=lambda depth: tuple(range(1, depth + 1))
    ),
}


def needed_nodes(topology: str, heads: Sequence[int]) -> list[Node]:
    """The nodes that heads at columns ``heads`` depend on, each behind those that it reads."""
    laterals = TOPOLOGIES[topology].laterals
    open_, needed = [(0, j) for j in heads], set[Node]()
    while open_:
        i, j = open_.pop()
        if (i, j) not in needed:
            needed.add((i, j))
            if j:
                open_ += [(i, k) for k in laterals(j)] + [(i + 1, j - 1)]
            elif i:
                open_.append((i - 1, 0))
    return sorted(needed, key=lambda node: (sum(node), node[1]))


def node_name(node: Node) -> str:
    """``(0, 3)`` → ``"x_0_3"``: named by place, so that a pruned state dict cannot mix heads."""
    return "x_{}_{}".format(*node)


class EncoderNode(nn.Module):
    """X^{i,0}: pool the node above (if any), then the block."""

    def __init__(self, above: int, pool: nn.Module, block: nn.Module) -> None:
        super().__init__()
        self.above = above
        self.pool = pool
        self.block = block

    def forward(self, x: Tensor, maps: list[Tensor]) -> Tensor:
        """Map the image ``x`` or the map above, both ``(B, C, *spatial)``."""
        source = x if self.above < 0 else maps[self.above]
        out: Tensor = self.block(self.pool(source))
        return out


class DecoderNode(nn.Module):
    """X^{i,j}, j > 0: the laterals, cropped to the up-sampled map from below, then the block."""

    def __init__(self, laterals: list[int], below: int, up: nn.Module, block: nn.Module) -> None:
        super().__init__()
        self.laterals = laterals
        self.below = below
        self.up = up
        self.block = block

    def forward(self, x: Tensor, maps: list[Tensor]) -> Tensor:
        """Combine ``maps`` computed so far; ``x`` is the image, unused."""
        up: Tensor = self.up(maps[self.below])
        parts = [center_crop(maps[lateral], up) for lateral in self.laterals]
        parts.append(up)
        out: Tensor = self.block(torch.cat(parts, dim=1))
        return out


class GridUNet(nn.Module):
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
        up_bias: of the transposed convolutions.
        dropout: probability behind each convolution.
        mid_features: channels between the two convolutions of each encoder block; default:
            ``features``.
        up_channels: ``"level"`` (an up-convolution brings the map to the channels of its level) or
            ``"keep"`` (it keeps those of the level below, as the 3D U-Net of 2016 does).

    Raises:
        ValueError: an unknown topology or padding, a head that is not there; in ``forward``, a
            spatial size that does not fit (the message names the nearest that do).
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
        up_bias: bool = True,
        dropout: float = 0.0,
        mid_features: Sequence[int] | None = None,
        up_channels: str = "level",
    ) -> None:
        super().__init__()
        depth = len(features) - 1
        _check_choice("topology", topology, TOPOLOGIES)
        _check_choice("padding", padding, ("same", "valid"))
        _check_choice("up_channels", up_channels, ("level", "keep"))
        columns = sorted(set(TOPOLOGIES[topology].heads(depth) if heads is None else heads))
        if not columns or not 1 <= columns[0] <= columns[-1] == depth:
            raise ValueError(f"heads {columns} must lie in 1..{depth} and include {depth}")
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
            "up_bias": up_bias,
            "dropout": dropout,
            "mid_features": tuple(mid_features or features),
            "up_channels": up_channels,
        }
        self.config = config
        self.geometry = _geometry(spatial_dims, depth, padding)
        nodes = needed_nodes(topology, columns)
        self.nodes = nn.ModuleDict({node_name(n): _node(n, nodes, config) for n in nodes})
        self.head_nodes = [nodes.index((0, j)) for j in reversed(columns)]
        head = Conv[Conv.CONV, spatial_dims]
        self.heads = nn.ModuleDict(
            {node_name((0, j)): head(features[0], out_channels, 1) for j in reversed(columns)}
        )
        he_init(self)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits for the image ``x`` ``(B, in_channels, *spatial)``; see the class."""
        logits = self.forward_heads(x)
        if self.training and len(logits) > 1:
            return [center_crop(z, logits[0]) for z in logits]
        return logits[0]

    def forward_heads(self, x: Tensor) -> list[Tensor]:
        """Logits of every head, the deepest first; valid networks return shallower heads larger.

        In eval mode a caller that wants one head only uses :meth:`forward`; the other heads cost
        one 1-convolution each.
        """
        if not torch.jit.is_scripting():
            self._check_size(x)
        maps: list[Tensor] = []
        for node in self.nodes.values():
            maps.append(node(x, maps))
        logits: list[Tensor] = []
        for k, head in enumerate(self.heads.values()):
            logits.append(head(maps[self.head_nodes[k]]))
        return logits

    def pruned(self, level: int) -> "GridUNet":
        """The network that ends at head X^{0,level}: fewer nodes, copied weights, one head.

        Equals that head of this network exactly (Zhou et al. 2018, section 3.3).

        Raises:
            ValueError: this network has no head at ``level``.
        """
        if node_name((0, level)) not in self.heads:
            raise ValueError(f"no head at level {level}; there are {', '.join(self.heads)}")
        prefix = slice(level + 1)
        config = self.config | {
            "features": self.config["features"][prefix],
            "mid_features": self.config["mid_features"][prefix],
            "heads": (level,),
        }
        network = GridUNet(**config).to(next(self.parameters()))  # same device and dtype
        weights = self.state_dict()
        network.load_state_dict({key: weights[key] for key in network.state_dict()})
        return network.train(self.training)

    @torch.jit.unused
    def _check_size(self, x: Tensor) -> None:
        if not (torch.jit.is_tracing() or torch.compiler.is_compiling()):
            self.geometry.output_size(x.shape[2:])


def _check_choice(name: str, value: str, choices: Sequence[str] | dict[str, Any]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def _geometry(spatial_dims: int, depth: int, padding: str) -> Geometry:
    lost = 4 if padding == "valid" else 0
    axis = GridAxis((2,) * depth, (lost,) * (depth + 1), (lost,) * depth).geometry()
    return Geometry((axis,) * spatial_dims)


def _node(node: Node, nodes: list[Node], config: dict[str, Any]) -> nn.Module:
    """Build X^{i,j}; ``nodes`` gives the place of each map in the list of maps."""
    i, j = node
    dims, features = config["spatial_dims"], config["features"]
    style = {key: config[key] for key in ("padding", "norm", "act", "bias", "dropout")}
    if j == 0:
        before = features[i - 1] if i else config["in_channels"]
        block = two_convs(dims, (before, config["mid_features"][i], features[i]), **style)
        pool = Pool[Pool.MAX, dims](2) if i else nn.Identity()
        return EncoderNode(nodes.index((i - 1, 0)) if i else -1, pool, block)
    laterals = TOPOLOGIES[config["topology"]].laterals(j)
    below = features[i + 1]
    up_to = below if config["up_channels"] == "keep" else features[i]
    channels = (len(laterals) * features[i] + up_to, features[i], features[i])
    return DecoderNode(
        [nodes.index((i, k)) for k in laterals],
        nodes.index((i + 1, j - 1)),
        up_conv(dims, below, up_to, bias=config["up_bias"]),
        two_convs(dims, channels, **style),
    )
