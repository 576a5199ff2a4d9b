"""What the networks do alike with the size of their input."""

# No `from __future__ import annotations`: torch.jit.script reads the annotations of modules.

import torch
from torch import Tensor, nn

from nestseg_prep.geometry import Geometry


class SizedNetwork(nn.Module):
    """A network that refuses what its geometry does not admit, before it computes anything."""

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.geometry = geometry

    @torch.jit.unused
    def check_size(self, x: Tensor) -> None:
        """Pass if ``x`` ``(B, C, *spatial)`` fits; eager only: an exported graph has its sizes.

        Raises:
            ValueError: it does not; the message names the nearest sizes that do.
        """
        if not (torch.jit.is_tracing() or torch.compiler.is_compiling()):
            self.geometry.output_size(x.shape[2:])
