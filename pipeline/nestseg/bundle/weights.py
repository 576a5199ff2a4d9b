"""The weights of a bundle: which file and entry its inference config names, and how they are read.

Nothing is unpickled, and a network gets all of its weights or none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import torch

from nestseg.bundle.built import BundleConfig
from nestseg.bundle.info import WEIGHTS, missing_weights
from nestseg.networks.weights import difference, foreign_layout, read_file, translate, unwrapped
from nestseg_prep.errors import InputError


class Source(NamedTuple):
    """Where the weights of a network are.

    Attributes:
        path: in the bundle's folder.
        entry: of the file, if it holds one; ``""`` if the config does not say.
    """

    path: Path
    entry: str


USUAL: Final = Source(WEIGHTS, "")


def source(config: BundleConfig, bundle: Path) -> Source:
    """What the config's ``CheckpointLoader`` names. This runs the bundle's code.

    Raises:
        InputError: that is no path in the bundle, or cannot be found out.
    """
    places = config.places("CheckpointLoader")
    enabled = [place for place in places if config.raw(f"{place}#_disabled_") in (None, False)]
    for place in (*enabled, *places):
        entries = config.raw(f"{place}#load_dict")
        named = config.build(f"{place}#load_path")
        if isinstance(entries, dict) and entries and isinstance(named, str | os.PathLike):
            of_network = (key for key, of in entries.items() if of == "@network")
            return Source(_inside(Path(named), bundle), str(next(of_network, next(iter(entries)))))
    return USUAL


def read_weights(network: torch.nn.Module, bundle: Path, where: Source = USUAL) -> None:
    """Give a network its weights, every one of them.

    Args:
        network: takes them.
        bundle: its folder.
        where: the file, and its entry.

    Raises:
        InputError: the file is missing, damaged, or belongs to another network.
    """
    path = bundle / where.path
    if not path.is_file():
        raise InputError(missing_weights(bundle, where.path))
    try:
        found = read_file(path)
    except Exception as error:  # torch raises a dozen kinds for a damaged or foreign file
        raise InputError(
            f"{bundle.name}: {where.path} is damaged ({type(error).__name__}); restore the file"
        ) from error
    state = unwrapped(found, where.entry)
    if where.entry and state and all(isinstance(value, Mapping) for value in state.values()):
        raise InputError(
            f"{bundle.name}: {where.path} has no entry `{where.entry}`, which the config names, "
            f"but {', '.join(map(str, state))}; fix `load_dict` of its CheckpointLoader"
        )
    wanted = network.state_dict()
    if foreign_layout(wanted, state):
        state, _ = translate(network, state)
    if reason := difference(wanted, state):
        raise InputError(
            f"{bundle.name}: {where.path} belongs to another network: {reason}; "
            "restore the file, or fix the config's network"
        )
    network.load_state_dict(state)


def _inside(named: Path, bundle: Path) -> Path:
    path = Path(os.path.normpath(bundle / named))
    if not path.is_relative_to(bundle):
        raise InputError(f"{bundle.name}: its weights lie outside of it; put them into models/")
    return path.relative_to(bundle)
