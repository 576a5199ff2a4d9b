"""A 2D network over a volume."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer
from monai.utils import convert_to_dst_type, convert_to_tensor
from torch import Tensor


class SlicewiseInferer(Inferer):
    """Segment a volume slice by slice along its last axis, each as another inferer does a picture.

    MONAI's ``SliceInferer`` is tied to its sliding window, which rescales the output of a valid
    network; this one hands slices to whatever inferer it is given.

    Args:
        inferer: for images ``(B, C, rows, columns)``.
    """

    def __init__(self, inferer: Inferer) -> None:
        super().__init__()
        self.inferer = inferer

    def __call__(
        self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> Tensor:
        """Logits ``(B, C, i, j, k)`` on the grid of ``inputs`` ``(B, in_channels, i, j, k)``."""
        volume = convert_to_tensor(inputs, track_meta=False)
        slices = [self.inferer(one, network, *args, **kwargs) for one in volume.unbind(-1)]
        out: Tensor = convert_to_dst_type(torch.stack(slices, dim=-1), inputs)[0]
        return out
