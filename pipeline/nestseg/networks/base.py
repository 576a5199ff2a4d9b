"""The contract that every network of the family keeps."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

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
