"""What one pass of a grid network costs, counted node by node: no torch.

The sizes of all maps follow from the recursion of :class:`nestseg_prep.geometry.GridAxis`, and what
is computed and held follows from the sizes. Both numbers are exact for ``GridUNet``, as torch runs
it: multiplications of its convolutions, and values that are held at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from nestseg.networks.topology import TOPOLOGIES, Node, needed_nodes
from nestseg_prep.geometry import GridAxis

_KERNEL = 3


class Arithmetic:
    """The cost of a pass, as a function of the spatial shape that goes in.

    Args:
        config: the arguments of a ``GridUNet``, as it keeps them.
        heads: columns of its heads.
    """

    def __init__(self, config: Mapping[str, Any], heads: Sequence[int]) -> None:
        self._config = dict(config)
        self._pools: tuple[tuple[int, ...], ...] = tuple(map(tuple, config["pools"]))
        self._lost = 4 if config["padding"] == "valid" else 0  # by the two convolutions of a block
        self._nodes = needed_nodes(config["topology"], heads)
        self._heads = [(0, column) for column in heads]
        self._along = cache(self._sizes_along)

    @property
    def normed_by_window(self) -> bool:
        """Whether its norms take their means over what goes in: the logits depend on its size."""
        norm = self._config["norm"]
        return norm is not None and (norm if isinstance(norm, str) else norm[0]).lower() != "batch"

    def macs(self, shape: Sequence[int]) -> int:
        """Multiplications with an addition in the convolutions of one pass over one image.

        Args:
            shape: spatial shape of the input; must be admissible.
        """
        dims = len(shape)
        total = 0
        for node in self._nodes:
            before, between, behind = self._channels(node)
            first, second = self._voxels(node, self._lost // 2, shape), self._voxels(node, 0, shape)
            total += _KERNEL**dims * between * (before * first + behind * second)
            if node[1]:
                below = self._voxels((node[0] + 1, node[1] - 1), 0, shape)
                total += self._up(node[0]) * below
        heads = sum(self._voxels(node, 0, shape) for node in self._heads)
        kernel: int = self._config["head_kernel_size"] ** dims
        weights: int = kernel * self._config["features"][0] * self._config["out_channels"]
        return total + weights * heads

    def values(self, shape: Sequence[int]) -> int:
        """Values held at once in one pass over one image, at most: its maps and the image.

        A node holds its input (the pooled map, or the concatenated maps and the one from below),
        and of a convolution's map as many copies as there are steps behind it. The maps of all
        nodes are held to the end.

        Args:
            shape: spatial shape of the input; must be admissible.
        """
        held: int = self._config["in_channels"] * math.prod(shape)
        copies = 3 if self._config["norm"] else 2
        peak: int = 0
        for node in self._nodes:
            before, between, behind = self._channels(node)
            first, second = self._voxels(node, self._lost // 2, shape), self._voxels(node, 0, shape)
            source = self._voxels(node, self._lost, shape)
            into = before * source if node != (0, 0) else 0
            if node[1]:
                into += self._config["up_channels"][node[0]] * source
            inside = max(copies * between * first, between * first + copies * behind * second)
            peak = max(peak, held + into + inside)
            held += behind * second
        heads = sum(self._voxels(node, 0, shape) for node in self._heads)
        at_the_end: int = held + heads * self._config["out_channels"]
        return max(peak, at_the_end)

    def _channels(self, node: Node) -> tuple[int, int, int]:
        """Before, between and behind the two convolutions of a node."""
        (level, column), features = node, self._config["features"]
        if column:
            laterals = len(TOPOLOGIES[self._config["topology"]].laterals(column))
            before = laterals * features[level] + self._config["up_channels"][level]
            return before, features[level], features[level]
        before = features[level - 1] if level else self._config["in_channels"]
        return before, self._config["mid_features"][level], features[level]

    def _up(self, level: int) -> int:
        """Multiplications of the up-convolution into a level, per voxel that goes in."""
        kernel = [self._config["up_kernel_size"] if p == 2 else 1 for p in self._pools[level]]
        channels = self._config["features"][level + 1] * self._config["up_channels"][level]
        return int(math.prod(kernel) * channels)

    def _voxels(self, node: Node, more: int, shape: Sequence[int]) -> int:
        """Voxels at a node, or of the map that is ``more`` voxels larger along each axis."""
        return math.prod(self._along(axis, n)[node] + more for axis, n in enumerate(shape))

    def _sizes_along(self, axis: int, n: int) -> dict[Node, int]:
        depth = len(self._pools)
        losses = (self._lost,) * (depth + 1), (self._lost,) * depth
        return GridAxis(tuple(pool[axis] for pool in self._pools), *losses).sizes(n)
