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


def store_half(path: str | Path) -> None:
    """Round the weights in a file to half precision, which halves it and changes no mask visibly.

    What half precision cannot hold (a running variance above 65504, say) stays as it is, and so do
    whole numbers. ``load_state_dict`` turns them back into the network's precision.

    Args:
        path: a state dict, replaced when the new file is whole.

    Raises:
        ValueError: as ``read_state_dict``.
    """
    path = Path(path)
    weights = {name: _halved(tensor) for name, tensor in read_state_dict(path).items()}
    half = path.with_name(f".{path.name}.part")
    torch.save(weights, half)
    half.replace(path)


def _halved(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    return half if torch.isfinite(half).all() else tensor
