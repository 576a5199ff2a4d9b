"""The two functions that MONAI Label imports, for pictures of training in TensorBoard."""

from __future__ import annotations

from typing import Any, NoReturn


def make_grid(*arguments: Any, **keywords: Any) -> NoReturn:
    """Refuse: nothing of ours draws with torchvision."""
    raise NotImplementedError("install a torchvision that fits this torch to draw with it")


save_image = make_grid
