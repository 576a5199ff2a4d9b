"""The modules of a U-Net grid: its nodes, and the network that runs them in order."""

# No `from __future__ import annotations`: torch.jit.script reads the annotations of modules.
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from monai.networks.layers.utils import get_act_layer
from torch import Tensor, nn

from nestseg.networks.blocks import center_crop, two_convs, up_conv
from nestseg.networks.sized import SizedNetwork
from nestseg.networks.topology import TOPOLOGIES, Node, needed_nodes, node_name
from nestseg_prep.geometry import Geometry


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

    def __init__(
        self, laterals: list[int], below: int, up: nn.Module, act: nn.Module, block: nn.Module
    ) -> None:
        super().__init__()
        self.laterals = laterals
        self.below = below
        self.up = up
        self.act = act
        self.block = block

    def forward(self, x: Tensor, maps: list[Tensor]) -> Tensor:
        """Combine ``maps`` computed so far; ``x`` is the image, unused."""
        up: Tensor = self.act(self.up(maps[self.below]))
        parts = [center_crop(maps[lateral], up) for lateral in self.laterals]
        parts.append(up)
        out: Tensor = self.block(torch.cat(parts, dim=1))
        return out


def decoder_node(
    node: Node,
    nodes: list[Node],
    width: Callable[[int, int], int],
    up_channels: int,
    config: Mapping[str, Any],
    *,
    stride: Sequence[int] = (),
) -> DecoderNode:
    """Build X^{i,j}, j > 0.

    Args:
        node: ``(i, j)``.
        nodes: gives the place of each map in the list of maps.
        width: channels of the map of a node.
        up_channels: channels that the up-convolution puts out.
        config: ``spatial_dims``, ``topology``, ``padding``, ``norm``, ``act``, ``bias``,
            ``up_bias``, ``up_act``, ``up_kernel_size`` and ``dropout`` as :class:`GridUNet` takes
            them.
        stride: of the up-convolution, per axis; default: 2 along every axis.
    """
    i, j = node
    dims, below = config["spatial_dims"], (i + 1, j - 1)
    laterals = TOPOLOGIES[config["topology"]].laterals(j)
    before, out = sum(width(i, k) for k in laterals) + up_channels, width(i, j)
    return DecoderNode(
        [nodes.index((i, k)) for k in laterals],
        nodes.index(below),
        up_conv(
            dims,
            width(*below),
            up_channels,
            stride=stride,
            kernel_size=config["up_kernel_size"],
            bias=config["up_bias"],
        ),
        get_act_layer(config["up_act"]) if config["up_act"] else nn.Identity(),
        two_convs(dims, (before, out, out), **block_style(config)),
    )


def block_style(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the two convolutions of every node of a network share."""
    return {key: config[key] for key in ("padding", "norm", "act", "bias", "dropout")}


class GridNetwork(SizedNetwork):
    """A network on the grid of nodes X^{i,j}; returns logits.

    In training mode with several heads: a list of ``(B, out_channels, *spatial)``, the deepest head
    first and all cropped to its size; else the deepest head's tensor.

    Args:
        config: the arguments of the subclass, to build a pruned one; ``topology`` is among them.
        geometry: of the deepest head.
        columns: of the heads, in rising order.
        node: builds X^{i,j}, given its place and the list of all nodes.
        head: builds one head.
        encoder: what computes the nodes X^{i,0}, all at once; default: ``node`` builds these too.

    Attributes:
        levels: columns of the heads, in rising order: what :meth:`pruned` takes.
    """

    def __init__(
        self,
        config: dict[str, Any],
        geometry: Geometry,
        columns: list[int],
        node: Callable[[Node, list[Node]], nn.Module],
        head: Callable[[], nn.Module],
        encoder: nn.Module | None = None,
    ) -> None:
        super().__init__(geometry)
        self.config = config
        self.levels = columns
        nodes = needed_nodes(config["topology"], columns)
        built = nodes
        if encoder is not None:
            self.encoder = encoder
            built = [n for n in nodes if n[1]]
            nodes = [n for n in nodes if not n[1]] + built
        self.nodes = nn.ModuleDict({node_name(n): node(n, nodes) for n in built})
        self.head_nodes = [nodes.index((0, j)) for j in reversed(columns)]
        self.heads = nn.ModuleDict({node_name((0, j)): head() for j in reversed(columns)})

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits for the image ``x`` ``(B, in_channels, *spatial)``; see the class.

        Raises:
            ValueError: a spatial size that does not fit; the message names the nearest that do.
        """
        logits = self.forward_heads(x)
        if self.training and len(logits) > 1:
            return [center_crop(z, logits[0]) for z in logits]
        return logits[0]

    def forward_heads(self, x: Tensor) -> list[Tensor]:
        """Logits of every head, the deepest first; valid networks return shallower heads larger.

        In eval mode a caller that wants one head only uses :meth:`forward`; the other heads cost
        one 1-convolution each. One that averages heads crops them to the first (``center_crop``).
        """
        if not torch.jit.is_scripting():
            self.check_size(x)
        maps = self.encode(x)
        for node in self.nodes.values():
            maps.append(node(x, maps))
        logits: list[Tensor] = []
        for k, head in enumerate(self.heads.values()):
            logits.append(head(maps[self.head_nodes[k]]))
        return logits

    def encode(self, x: Tensor) -> list[Tensor]:
        """Maps that are there before the nodes: those of an encoder."""
        maps: list[Tensor] = []
        return maps

    def pruned(self, level: int, *, keep_shallower: bool = False) -> Self:
        """The network that ends at head X^{0,level}: fewer nodes, copied weights, one head.

        Equals that head of this network exactly (Zhou et al. 2018, section 3.3).

        Args:
            level: column of the head.
            keep_shallower: whether the heads before it stay, where none needs a node of its own:
                those of UNet++ and UNet+ do not.

        Raises:
            ValueError: this network has no head at ``level``.
        """
        if node_name((0, level)) not in self.heads:
            raise ValueError(f"no head at level {level}; there are {', '.join(self.heads)}")
        heads, topology = [level], self.config["topology"]
        upto = [column for column in self.levels if column <= level]
        if keep_shallower and needed_nodes(topology, upto) == needed_nodes(topology, heads):
            heads = upto
        config = self.config | self._config_at(level) | {"heads": tuple(heads)}
        network = type(self)(**config).to(next(self.parameters()))  # same device and dtype
        weights = self.state_dict()
        network.load_state_dict({key: weights[key] for key in network.state_dict()})
        return network.train(self.training)

    def _config_at(self, level: int) -> dict[str, Any]:
        """The arguments that depend on the depth, for a depth of ``level``."""
        raise NotImplementedError
