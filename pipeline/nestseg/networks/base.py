"""The contract that every network of the family keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from nestseg_prep.geometry import Geometry


@runtime_checkable
class SegmentationNetwork(Protocol):
    """A network that carries its geometry and returns logits.

    ``forward`` takes ``(B, in_channels, *spatial)`` and returns logits ``(B, out_channels, *out)``
    with ``out = geometry.output_size(spatial)``. In training mode a network with several heads
    returns a list instead: the main (deepest) head first, as MONAI's ``DeepSupervisionLoss`` weighs
    the first most, and all heads of one spatial size.
    """

    geometry: Geometry

    def __call__(self, x: Tensor) -> Tensor | list[Tensor]: ...


@dataclass(frozen=True)
class NamedNetwork:
    """One network of the family, as the table ``NETWORKS`` lists it.

    Attributes:
        paper: who proposed it; of a U-Net grid on an encoder, who proposed the encoder.
        builder: takes ``in_channels`` and ``out_channels``, among others of its own; and
            ``spatial_dims`` if there is a choice.
        spatial_dims: the dimensions in which the network is declared and tested.
    """

    paper: str
    builder: Callable[..., nn.Module]
    spatial_dims: tuple[int, ...] = (2, 3)

    def build(self, spatial_dims: int, **arguments: Any) -> nn.Module:
        """Build the network in 2D or 3D; it keeps the contract of :class:`SegmentationNetwork`.

        Raises:
            ValueError: it is not declared in that dimension.
        """
        if spatial_dims not in self.spatial_dims:
            raise ValueError(f"spatial_dims must be one of {self.spatial_dims}, got {spatial_dims}")
        if len(self.spatial_dims) > 1:
            arguments["spatial_dims"] = spatial_dims
        return self.builder(**arguments)
