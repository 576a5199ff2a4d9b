"""Along which axes a network saw its images mirrored in training: read from its config, as data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_ROTATED = (0, 1)  # MONAI's default plane


def trained_axes(bundle: Path, dims: int) -> tuple[int, ...]:
    """Spatial axes of the network's input that ``configs/train.json`` mirrors at random.

    A network answers worse to what it never saw: mirrored along all axes, one that was trained
    with left and right exchanged lost a tenth of its Dice.

    Args:
        bundle: its folder.
        dims: of the network.

    Returns:
        In rising order; empty if there is no such config, or none that this can read.
    """
    try:
        content = json.loads((bundle / "configs" / "train.json").read_text())
    except (OSError, ValueError):
        return ()
    axes: set[int] = set()
    planes: list[set[int]] = []
    for step in _steps(content):
        found = {name: _resolved(value, content) for name, value in step.items()}
        kind = str(found["_target_"]).rpartition(".")[2]
        prob = found.get("prob", 0.1)
        if not isinstance(prob, (int, float)) or prob <= 0:
            continue
        if kind == "RandFlipd":
            axes |= _axes(found.get("spatial_axis"), dims)
        elif kind == "RandAxisFlipd":
            axes |= set(range(dims))
        elif kind == "RandRotate90d":
            planes.append(_axes(found.get("spatial_axes", _ROTATED), dims))
    for plane in planes:  # a quarter turn takes what is mirrored along one axis to the other
        if axes & plane:
            axes |= plane
    return tuple(sorted(axes))


def _steps(content: Any) -> Iterator[dict[str, Any]]:
    if isinstance(content, dict):
        if "_target_" in content:
            yield content
        for value in content.values():
            yield from _steps(value)
    elif isinstance(content, list):
        for value in content:
            yield from _steps(value)


def _resolved(value: Any, content: dict[str, Any]) -> Any:
    """What a reference such as ``"@flip_axis"`` stands for."""
    return content.get(value[1:]) if isinstance(value, str) and value.startswith("@") else value


def _axes(given: Any, dims: int) -> set[int]:
    """Axes as MONAI's transforms take them; nothing of what only running the config would tell."""
    if given is None:
        return set(range(dims))
    listed = given if isinstance(given, (list, tuple)) else [given]
    return {axis % dims for axis in listed if isinstance(axis, int) and -dims <= axis < dims}
