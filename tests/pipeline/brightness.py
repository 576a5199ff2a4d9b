"""A network that knows its classes by their brightness alone, for bundles of tests."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nestseg_prep.geometry import Geometry


class ByBrightness(nn.Module):
    """The class whose brightness is nearest; ``centres`` are the weights."""

    def __init__(self, centres: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("centres", torch.tensor(centres))
        self.geometry = Geometry.same(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        centres: Tensor = self.get_buffer("centres")
        return -((x - centres.reshape(-1, 1, 1, 1)) ** 2)
