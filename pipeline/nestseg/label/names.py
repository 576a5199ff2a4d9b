"""Classes of labels: which number a name has, whoever drew and numbered the label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from nestseg_prep.volume import Volume


def known_numbers(bundles: Iterable[Mapping[int, str]]) -> dict[str, int]:
    """Name in small letters → number, of all names that have one number in every bundle.

    Args:
        bundles: number → name of each.
    """
    numbers: dict[str, set[int]] = {}
    for labels in bundles:
        for number, name in labels.items():
            numbers.setdefault(name.lower(), set()).add(number)
    return {name: found.pop() for name, found in numbers.items() if len(found) == 1}


def names_in(label_info: Sequence[Mapping[str, Any]] | None) -> dict[int, str]:
    """Value → name, as clients of MONAI Label say it.

    An item names its value as ``idx`` (3D Slicer) or ``labelID``; without either, its place in the
    list counts, from 1.
    """
    names = {}
    for place, item in enumerate(label_info or [], start=1):
        value = item.get("idx", item.get("labelID", place))
        if item.get("name") and str(value).isdigit() and int(value) > 0:
            names[int(value)] = str(item["name"])
    return names


def renumbered(
    labels: Volume, given: Mapping[int, str], known: Mapping[str, int]
) -> tuple[Volume, dict[int, str]]:
    """A label whose known classes have their own numbers, and the names of all numbers in it.

    A client that draws one structure alone calls it 1, whichever class it is: its name counts. A
    value without a name, and a name that nobody knows, keep the value.

    Args:
        labels: label map.
        given: value → name in it.
        known: name in small letters → number.
    """
    moves = {value: known[name.lower()] for value, name in given.items() if name.lower() in known}
    table = np.arange(int(labels.array.max()) + 1)
    for value, number in moves.items():
        if value < len(table):
            table[value] = number
    array = table[labels.array]
    kind = np.uint8 if array.max() < 256 else np.uint16
    names = {number: name.capitalize() for name, number in known.items()}
    names |= {moves.get(value, value): name for value, name in given.items()}
    present = (int(value) for value in np.unique(array) if value)
    names |= {value: f"label {value}" for value in present if value not in names}
    return Volume(array.astype(kind), labels.affine), names


def without_gaps(names: Mapping[int, str]) -> dict[int, str]:
    """Names of 1, 2, 3 … up to the highest: a BINARY SEG numbers its segments so."""
    return {n: names.get(n, f"label {n}") for n in range(1, max(names, default=0) + 1)}
