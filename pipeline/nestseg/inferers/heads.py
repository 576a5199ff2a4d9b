"""Every head of a network over an image of any size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor

from nestseg.networks.adapted import adapted, unwrapped
from nestseg.networks.blocks import center_crop


class EveryHeadInferer(Inferer):
    """Run another inferer once for all heads of a network, where it would give one.

    For validation in training, where a network in eval mode answers with its main head alone.

    Args:
        inferer: places tiles or slices; it sees the heads as one image of more channels.
    """

    def __init__(self, inferer: Inferer) -> None:
        super().__init__()
        self.inferer = inferer

    def __call__(
        self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> list[Tensor]:
        """Logits of each head, the main one first, as the inferer gives those of one.

        A single head where the network has no ``forward_heads`` and gives no more.
        """
        heads = _Stacked(network)
        logits: Tensor = self.inferer(inputs, heads, *args, **kwargs)
        return list(logits.chunk(heads.count, dim=1))


class _Stacked:
    """The heads of a network side by side as channels, cropped to the main one's size."""

    def __init__(self, network: Callable[..., Any]) -> None:
        self.network = adapted(unwrapped(network))
        self.geometry = self.network.geometry
        self.every_head = getattr(self.network, "forward_heads", lambda x: [self.network(x)])
        self.count = 1

    def __call__(self, x: Tensor) -> Tensor:
        heads = self.every_head(x)
        self.count = len(heads)
        return torch.cat([center_crop(head, heads[0]) for head in heads], dim=1)
