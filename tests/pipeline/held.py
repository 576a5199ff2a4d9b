"""What torch holds in memory at once, counted instead of measured."""

from __future__ import annotations

import weakref
from collections import Counter
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Held(TorchDispatchMode):
    """Counts the values of all tensors that are alive, storage by storage.

    Attributes:
        peak: the most values at once.
    """

    def __init__(self, *there: Tensor) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._owners: Counter[int] = Counter()
        for tensor in there:
            self._see(tensor)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._see(tensor)
        return out

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        place, values = storage.data_ptr(), storage.nbytes() // tensor.itemsize
        if not self._owners[place]:
            self.now += values
            self.peak = max(self.peak, self.now)
        self._owners[place] += 1
        weakref.finalize(tensor, self._gone, place, values)

    def _gone(self, place: int, values: int) -> None:
        self._owners[place] -= 1
        if not self._owners[place]:
            self.now -= values
