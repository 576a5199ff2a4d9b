"""Weights that users bring as files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor


def read_state_dict(path: Path) -> Mapping[str, Tensor]:
    """A state dict from a file, never running what the file may hold besides tensors.

    Raises:
        ValueError: the file is missing, unreadable, or holds no state dict; one line that names it.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: cannot be read as weights: {reason}") from error
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(f"{path}: holds no state dict, which maps names to tensors")
    return content
