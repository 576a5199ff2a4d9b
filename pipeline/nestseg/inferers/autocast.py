"""One forward pass in reduced precision, for training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor

from nestseg.networks.adapted import heads


class AutocastInferer(Inferer):
    """Run the network under ``torch.autocast``, and hand its logits back in float32.

    MONAI's ``SupervisedTrainer(amp=True)`` autocasts CUDA only; on CPUs with bfloat16 units this
    halves the time of a step.

    Args:
        dtype: a torch dtype by name: ``"bfloat16"``, ``"float16"`` or ``"float32"`` (no autocast).
    """

    def __init__(self, dtype: str = "bfloat16") -> None:
        super().__init__()
        self.dtype: torch.dtype = getattr(torch, dtype)

    def __call__(
        self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Logits of ``network(inputs)`` in float32; a list, the main head first, if it has several.

        Also of a network of MONAI's that stacks its heads or returns them in another order.
        """
        enabled = self.dtype != torch.float32
        with torch.autocast(inputs.device.type, dtype=self.dtype, enabled=enabled):
            found = [z.float() for z in heads(network, inputs, *args, **kwargs)]
        return found if len(found) > 1 else found[0]
