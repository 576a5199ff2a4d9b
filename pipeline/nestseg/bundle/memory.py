"""How much memory a training step of a grid network takes: a formula, held against measurements.

Of a grid on an encoder the numbers are counted on the network itself (``backbone.py``).

What autograd keeps is counted exactly: of each of the two convolutions of a node the convolution's
output, the norm's output and the activation's output; the concatenated input of a decoder node; the
pooled map and its 64-bit indices. Loss and scratch memory are fitted to the peak resident memory
that ``benchmarks/bench_training_memory.py`` measures, on a CPU with bfloat16 autocast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from nestseg.networks.topology import TOPOLOGIES, Node, needed_nodes

PROGRAM: Final = 500_000_000
"""Python with torch and MONAI."""
_BYTES: Final = 2  # of an activation in bfloat16
_INDEX: Final = 8 // _BYTES  # of a pooling's index, in activations
_OF_PARAMETER: Final = 20  # weight, gradient and AdamW's two moments in float32, and scratch
_OF_LOGIT: Final = 16  # softmax, one-hot and log-softmax in float32, per head
# glibc hands blocks of up to 32 MiB back to its heap, not to the system: about eight of the
# widest maps stay behind as holes. Larger blocks leave none.
_HELD_BLOCK: Final = 32 * 2**20
_SCRATCH, _HOLES = 4, 8


@dataclass(frozen=True)
class Counted:
    """What was counted on a grid on an encoder.

    Attributes:
        encoder: its name.
        kept: values that autograd keeps, per voxel of the patch, in units of one bfloat16.
        widest: channels of the widest map, per voxel of the patch.
        weights: all parameters.
    """

    encoder: str
    kept: float
    widest: int
    weights: int


@dataclass(frozen=True)
class Network:
    """A :class:`nestseg.networks.GridUNet`, as far as its memory depends on it.

    Attributes:
        topology: ``"unet++"`` or another of the grid.
        pools: by what each pooling divides each axis.
        features: channels per level, one more than poolings; on an encoder those of the decoder.
        classes: output channels.
        counted: of a :class:`nestseg.networks.BackboneUNet`.
    """

    topology: str
    pools: tuple[tuple[int, ...], ...]
    features: tuple[int, ...]
    classes: int
    counted: Counted | None = None

    @property
    def heads(self) -> tuple[int, ...]:
        """Columns of the nodes with a head."""
        depth = len(self.features) if self.counted else len(self.pools)
        return TOPOLOGIES[self.topology].heads(depth)

    def nodes(self) -> list[Node]:
        """Places of all nodes."""
        return needed_nodes(self.topology, self.heads)

    def inputs(self, node: Node) -> int:
        """Channels of the map that goes into the block of a node; the image has one."""
        level, column = node
        if not column:
            return self.features[level - 1] if level else 1
        return self.features[level] * (len(TOPOLOGIES[self.topology].laterals(column)) + 1)


def activations(network: Network) -> float:
    """Values that autograd keeps, per voxel of the patch, in units of one bfloat16."""
    if network.counted:
        return network.counted.kept
    divided = [1, *accumulate((math.prod(p) for p in network.pools), lambda a, b: a * b)]
    kept = 0.0
    for level, column in network.nodes():
        values = 6.0 * network.features[level]
        if column:
            values += network.inputs((level, column))
        elif level:
            values += network.inputs((level, column)) * (1 + _INDEX)
        kept += values / divided[level]
    return kept


def parameters(network: Network) -> int:
    """Weights of the network, norms aside."""
    if network.counted:
        return network.counted.weights
    dims = len(network.pools[0])
    count = len(network.heads) * network.features[0] * network.classes
    for level, column in network.nodes():
        out = network.features[level]
        count += 3**dims * out * (network.inputs((level, column)) + out)
        if column:
            count += math.prod(network.pools[level]) * network.features[level + 1] * out
    return count


def training_bytes(network: Network, patch: Sequence[int], batch: int) -> int:
    """Bytes of one training step with deep supervision, the program itself included.

    Args:
        network: that is trained, with AdamW.
        patch: voxels per axis.
        batch: patches per step.
    """
    voxels = batch * math.prod(patch)
    if network.counted:
        maps = network.counted.widest
    else:
        maps = max(network.inputs(node) for node in network.nodes() if node[0] == 0)
    widest = maps * voxels * _BYTES
    scratch = _SCRATCH * widest + _HOLES * min(widest, maps // network.features[0] * _HELD_BLOCK)
    kept = activations(network) * voxels * _BYTES
    loss = len(network.heads) * network.classes * voxels * _OF_LOGIT
    return int(PROGRAM + parameters(network) * _OF_PARAMETER + kept + loss + scratch)
