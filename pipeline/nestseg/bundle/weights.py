"""The weights of a bundle: which file and entry its inference config names, and how they are read.

Nothing is unpickled, and a network gets all of its weights or none.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from nestseg.bundle.built import BundleConfig
from nestseg.bundle.info import WEIGHTS, missing_weights
from nestseg_prep.errors import InputError

_ENTRIES = ("model", "network", "state_dict")
_WRAPPED = "module."


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
        found = _read(path)
    except Exception as error:  # torch raises a dozen kinds for a damaged or foreign file
        raise InputError(
            f"{bundle.name}: {where.path} is damaged ({type(error).__name__}); restore the file"
        ) from error
    state = _state(found, where.entry)
    if where.entry and state and all(isinstance(value, Mapping) for value in state.values()):
        raise InputError(
            f"{bundle.name}: {where.path} has no entry `{where.entry}`, which the config names, "
            f"but {', '.join(map(str, state))}; fix `load_dict` of its CheckpointLoader"
        )
    if difference := _difference(network.state_dict(), state):
        raise InputError(
            f"{bundle.name}: {where.path} belongs to another network: {difference}; "
            "restore the file, or fix the config's network"
        )
    network.load_state_dict(state)


def _inside(named: Path, bundle: Path) -> Path:
    path = Path(os.path.normpath(bundle / named))
    if not path.is_relative_to(bundle):
        raise InputError(f"{bundle.name}: its weights lie outside of it; put them into models/")
    return path.relative_to(bundle)


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file  # noqa: PLC0415  few bundles have such a file

        return load_file(path)
    _check_sums(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _state(found: Any, entry: str) -> Mapping[str, Any]:
    """The weights in what a file holds: an entry or all of it, as MONAI's loader decides."""
    for name in (entry,) if entry else _ENTRIES:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
            break
    state = dict(found) if isinstance(found, Mapping) else {}
    if state and all(str(name).startswith(_WRAPPED) for name in state):  # of DataParallel
        return {name.removeprefix(_WRAPPED): value for name, value in state.items()}
    return state


def _difference(network: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """The first way in which weights do not fit a network; ``""`` if they do."""
    for name, value in network.items():
        if name not in state:
            return f"`{name}` is missing in the file"
        if not isinstance(value, Tensor):
            continue
        theirs = state[name]
        if not isinstance(theirs, Tensor) or theirs.shape != value.shape:
            there = list(theirs.shape) if isinstance(theirs, Tensor) else type(theirs).__name__
            return f"`{name}` has the shape {there} in the file, {list(value.shape)} in the network"
    unknown = next((name for name in state if name not in network), None)
    return f"the network has no `{unknown}`" if unknown is not None else ""


def _check_sums(path: Path) -> None:
    """Compare the parts of a weights file with their checksums, which ``torch.load`` does not do.

    Without this most flips of a bit give other weights, and no word.
    """
    if not zipfile.is_zipfile(path):  # as torch wrote before 1.6; cut archives it refuses itself
        return
    with zipfile.ZipFile(path) as parts:
        if (part := parts.testzip()) is not None:
            raise zipfile.BadZipFile(part)
