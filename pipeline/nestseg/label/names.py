"""Classes of labels: which number a name has, whoever drew and numbered the label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from nestseg_prep.volume import Volume

Classes: TypeAlias = Mapping[int, str]
"""Number → name of a bundle's classes."""


def classes_for(names: Iterable[str], bundles: Sequence[Classes]) -> Classes:
    """The classes of the bundle that knows most of some names; none where no bundle knows any.

    Without names, those of the only bundle.

    Args:
        names: of structures, in any case.
        bundles: classes of each.
    """
    wanted = {name.lower() for name in names}
    if not wanted:
        return bundles[0] if len(bundles) == 1 else {}

    def known(classes: Classes) -> int:
        return len(wanted & {name.lower() for name in classes.values()})

    best = max(bundles, key=known, default={})
    return best if known(best) else {}


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
    labels: Volume, given: Classes, bundles: Sequence[Classes]
) -> tuple[Volume, dict[int, str]]:
    """A label whose known classes have their own numbers, and the names of all numbers in it.

    A client that draws one structure alone calls it 1, whichever class it is: its name counts. A
    value without a name, and a name that nobody knows, keep the value.

    Args:
        labels: label map.
        given: value → name in it.
        bundles: classes of each.
    """
    classes = classes_for(given.values(), bundles)
    moves = moves_to(classes, given)
    table = np.arange(int(labels.array.max()) + 1)
    for value, number in moves.items():
        if value < len(table):
            table[value] = number
    array = table[labels.array]
    kind = np.uint8 if array.max() < 256 else np.uint16
    names = {moves.get(value, value): name for value, name in given.items()}
    names = {**names, **classes}
    present = (int(value) for value in np.unique(array) if value)
    names |= {value: f"label {value}" for value in present if value not in names}
    return Volume(array.astype(kind), labels.affine), names


def moves_to(classes: Classes, given: Classes) -> dict[int, int]:
    """Value → number of its class, for every value whose name is that of a class."""
    numbers = {name.lower(): number for number, name in classes.items()}
    return {
        value: numbers[name.lower()] for value, name in given.items() if name.lower() in numbers
    }


def without_gaps(names: Mapping[int, str]) -> dict[int, str]:
    """Names of 1, 2, 3 … up to the highest: a BINARY SEG numbers its segments so."""
    return {n: names.get(n, f"label {n}") for n in range(1, max(names, default=0) + 1)}
