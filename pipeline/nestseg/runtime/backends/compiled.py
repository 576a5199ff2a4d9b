"""``torch.compile`` with frozen weights. On a CPU it needs a C++ compiler, and a minute a shape.

What Inductor compiles it keeps in a cache of its own.
"""

from __future__ import annotations

import shutil
import warnings
from typing import Any

import torch
from torch import Tensor

from nestseg.runtime.backends import eager
from nestseg.runtime.contract import Built, Task, UnavailableError

FIXED_SHAPE = True


def version() -> str:
    """Of torch."""
    return eager.version()


def check(device: torch.device, precision: str) -> None:
    """Raise an ``UnavailableError`` where nothing could be compiled."""
    eager.check(device, precision)
    if device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        raise UnavailableError("torch.compile needs a C++ compiler: install g++")


def build(task: Task, artefact: bytes = b"") -> Built:
    """Compile a prepared copy of the network for tiles of one shape."""
    del artefact
    network: Any = torch.compile(eager.prepared(task), dynamic=False)

    def run(x: Tensor) -> list[Tensor]:
        # Frozen: weights are constants of the graph. The setting counts when it is compiled, which
        # is at the first tile.
        with warnings.catch_warnings(), torch._inductor.config.patch(freezing=True):
            warnings.simplefilter("ignore")
            return list(network(x))

    return Built(eager.calling(run, task))
