"""Whether a bundle needs no more of MONAI than nestseg's own bundles do. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nestseg.bundle import locate
from nestseg.bundle.info import read_config
from nestseg_prep.errors import InputError


def is_familiar(bundle: Path) -> bool:
    """Whether its inference config names and evaluates only what one of ours does.

    Such are the bundles that ``nestseg bundle new`` makes. Of any other nobody knows what it uses.
    """
    known = {one for folder in locate.named().values() for one in _named(folder)}
    try:
        return known.issuperset(_named(bundle))
    except InputError:  # who loads it says so
        return False


def _named(bundle: Path) -> Iterator[str]:
    """Every target, and every expression."""
    return _within(read_config(bundle), "")


def _within(item: Any, key: str) -> Iterator[str]:
    if isinstance(item, dict):
        for name, value in item.items():
            yield from _within(value, name)
    elif isinstance(item, list):
        for value in item:
            yield from _within(value, key)
    elif isinstance(item, str) and (key == "_target_" or item.startswith("$")):
        yield item
