"""What a label server offers of a bundle: its levels, and what can be measured with it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from nestseg.bundle.built import BundleConfig
from nestseg.label.uncertainty import Measure, measures_of
from nestseg.pruning.candidates import prunable_network
from nestseg_prep.errors import InputError


class Traits(NamedTuple):
    """What a network can do.

    Attributes:
        levels: that it can be pruned to, rising; none where it has one head.
        measures: of its uncertainty.
    """

    levels: tuple[int, ...]
    measures: tuple[Measure, ...]


def traits(bundle: Path) -> Traits:
    """The traits of a bundle, whose code is run in this process.

    Raises:
        InputError: its configs cannot be used.
    """
    try:
        levels = tuple(prunable_network(bundle).levels)
    except InputError:
        levels = ()
    network = BundleConfig.inference(bundle).build("network_def")
    return Traits(levels, measures_of(network))
