"""How a network's output size follows from its input size, as plain integers.

A network carries its geometry; the inferer, the prep stage and the tests read it. Everything here
is per spatial axis and in voxels; nothing imports numpy, torch or monai.

For a U-Net of depth ``d`` whose blocks each lose ``e`` voxels (two unpadded 3-convolutions:
``e = 4``) the recursion below has the closed form of Ronneberger et al. 2015:
``n = 2^d (b + 2e) - e`` goes in and ``m = 2^d (b - e) + e`` comes out, for ``b`` voxels behind the
bottom block (572 → 388 at depth 4, b = 28).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul


@dataclass(frozen=True)
class AxisGeometry:
    """Input and output sizes of a network along one axis.

    An input of ``n`` voxels is admissible iff ``n >= minimum`` and ``n ≡ residue (mod period)``;
    its output has ``n - margin`` voxels and is centred on the input.

    Attributes:
        margin: voxels lost, both sides together; 0 for a network with 'same' padding.
        period: the output is shift-equivariant only for shifts by a multiple of this.
        residue: ``n % period`` of every admissible input.
        minimum: the smallest admissible input.
    """

    margin: int
    period: int
    residue: int
    minimum: int

    def admits(self, n: int) -> bool:
        """Whether ``n`` voxels can go in."""
        return n >= self.minimum and n % self.period == self.residue

    def output_size(self, n: int) -> int:
        """Voxels that come out for ``n`` that go in.

        Raises:
            ValueError: ``n`` is not admissible; the message names the nearest sizes that are.
        """
        if not self.admits(n):
            below = n - (n - self.residue) % self.period
            near = [k for k in (below, below + self.period) if k >= self.minimum] or [self.minimum]
            raise ValueError(
                f"an input of {n} voxels does not fit the network; "
                f"the nearest sizes that do: {' and '.join(map(str, near))}"
            )
        return n - self.margin

    def input_size(self, at_least: int) -> int:
        """The smallest admissible input whose output covers ``at_least`` voxels."""
        n = max(at_least + self.margin, self.minimum)
        return n + (self.residue - n) % self.period

    def input_within(self, at_most: int) -> int:
        """The largest admissible input of ``at_most`` voxels, or the smallest of all if none is."""
        return max(at_most - (at_most - self.residue) % self.period, self.minimum)


@dataclass(frozen=True)
class Geometry:
    """One :class:`AxisGeometry` per spatial axis."""

    axes: tuple[AxisGeometry, ...]

    @classmethod
    def same(cls, spatial_dims: int, period: int) -> Geometry:
        """Of a network that loses nothing and admits every multiple of ``period``."""
        return cls((AxisGeometry(0, period, 0, period),) * spatial_dims)

    @property
    def margin(self) -> tuple[int, ...]:
        """Voxels lost per axis, both sides together."""
        return tuple(axis.margin for axis in self.axes)

    @property
    def period(self) -> tuple[int, ...]:
        """Step, in voxels per axis, by which tiles may be laid."""
        return tuple(axis.period for axis in self.axes)

    @property
    def is_valid(self) -> bool:
        """Whether the network loses a margin, i.e. computes no voxel from made-up padding."""
        return any(self.margin)

    def output_size(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Output shape of an input of spatial ``shape``; ``ValueError`` where it does not fit."""
        pairs = zip(self.axes, shape, strict=True)
        return tuple(axis.output_size(n) for axis, n in pairs)

    def input_size(self, at_least: Sequence[int]) -> tuple[int, ...]:
        """The smallest admissible input shape whose output covers ``at_least``."""
        pairs = zip(self.axes, at_least, strict=True)
        return tuple(axis.input_size(n) for axis, n in pairs)

    def input_within(self, at_most: Sequence[int]) -> tuple[int, ...]:
        """The largest admissible input shape within ``at_most``."""
        return tuple(axis.input_within(n) for axis, n in zip(self.axes, at_most, strict=True))


@dataclass(frozen=True)
class GridAxis:
    """One axis of a grid of nodes X^{i,j} (level i, decoder column j), as in UNet++.

    The recursion: ``S(0,0) = n - e_0``, ``S(i+1,0) = S(i,0) / p_i - e_{i+1}`` down the encoder, and
    ``S(i,j) = p_i S(i+1,j-1) - f_i`` for the decoder nodes.

    Attributes:
        pools: ``p_i``, the pooling factor between level i and i + 1; as many as the depth.
        encoder_losses: ``e_i``, voxels lost by the block of X^{i,0}; depth + 1 of them.
        decoder_losses: ``f_i``, voxels lost by the block of X^{i,j}, j > 0; depth of them.
    """

    pools: tuple[int, ...]
    encoder_losses: tuple[int, ...]
    decoder_losses: tuple[int, ...]

    def __post_init__(self) -> None:
        depth = len(self.pools)
        if len(self.encoder_losses) != depth + 1 or len(self.decoder_losses) != depth:
            raise ValueError(f"{depth} pools want {depth + 1} encoder and {depth} decoder losses")
        if any(loss % 2 for loss in self.encoder_losses + self.decoder_losses):
            raise ValueError("a block must lose the same on both sides: use odd kernels")

    def _strides(self) -> tuple[int, ...]:
        return tuple(accumulate(self.pools, mul, initial=1))

    def margin(self, column: int) -> int:
        """Voxels lost between the input and node X^{0,column}, both sides together."""
        strides = self._strides()
        down = sum(s * e for s, e in zip(strides, self.encoder_losses[: column + 1], strict=False))
        up = sum(s * f for s, f in zip(strides, self.decoder_losses[:column], strict=False))
        return down + up

    def geometry(self, column: int | None = None) -> AxisGeometry:
        """Geometry of the network that ends at X^{0,column} (default: the deepest)."""
        depth = len(self.pools) if column is None else column
        strides = self._strides()
        period = strides[depth]
        lost = sum(s * e for s, e in zip(strides, self.encoder_losses[:depth], strict=False))
        margin, residue = self.margin(depth), lost % period
        minimum = margin + 1 + (residue - margin - 1) % period  # one voxel out: no node is empty
        return AxisGeometry(margin, period, residue, minimum)

    def sizes(self, n: int) -> dict[tuple[int, int], int]:
        """Voxels at every node X^{i,j} for an input of ``n``; ``ValueError`` if it does not fit."""
        self.geometry().output_size(n)
        size = {(0, 0): n - self.encoder_losses[0]}
        for i, (pool, loss) in enumerate(zip(self.pools, self.encoder_losses[1:], strict=True)):
            size[i + 1, 0] = size[i, 0] // pool - loss
        depth = len(self.pools)
        for j in range(1, depth + 1):
            for i in range(depth - j + 1):
                size[i, j] = self.pools[i] * size[i + 1, j - 1] - self.decoder_losses[i]
        return size
