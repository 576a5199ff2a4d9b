"""A bundle pruned to one level, as a bundle of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from nestseg.bundle.built import BundleConfig
from nestseg.bundle.recipe import RECIPE
from nestseg.inferers import OverlapTileInferer
from nestseg.networks.nodes import GridNetwork
from nestseg_prep.errors import InputError

_KEPT = ("LICENSE", RECIPE, "configs", "docs", "scripts")
"""What a pruned bundle takes over; data, results and exports of the full network stay behind."""

_HEAD_WEIGHTS = "deep_supervision_weights"


def prunable_network(bundle: Path) -> GridNetwork:
    """The network of a bundle, without its weights.

    Raises:
        InputError: it has one head, or no heads to prune to.
    """
    config = BundleConfig.inference(bundle)
    network = config.build("network_def")
    if not isinstance(network, GridNetwork):
        raise InputError(
            f"{bundle.name}: cannot be pruned: {type(network).__name__} has no levels; "
            "take a bundle with a UNet++, UNet+ or U-Net^e"
        )
    if len(network.levels) < 2:
        raise InputError(
            f"{bundle.name}: cannot be pruned: its network has one head; take one that was "
            "trained with deep supervision"
        )
    target, name = config.raw("network_def")["_target_"], type(network).__name__
    if target.rpartition(".")[2] != name:
        raise InputError(
            f"{bundle.name}: cannot be pruned: `network_def` calls {target}; write it as {name} "
            "with its features"
        )
    return network


def write_level(bundle: Path, network: GridNetwork, level: int, folder: Path) -> None:
    """Write a bundle pruned to one level: its configs, and the weights that remain.

    Args:
        bundle: the full one.
        network: its network, as :func:`prunable_network` gives it.
        level: one of the network's levels.
        folder: of the pruned bundle; made here.
    """
    folder.mkdir()
    for name in _KEPT:
        path = bundle / name
        if path.is_dir():
            shutil.copytree(path, folder / name)
        elif path.is_file():
            shutil.copyfile(path, folder / name)
    changes = {}
    for path in sorted((folder / "configs").glob("*.json")):
        config = json.loads(path.read_text())
        if "network_def" in config:
            changes[path.stem] = _network_changes(config, network, level)
    change_configs(folder, changes)
    forget_uncertainty(folder)  # of the whole network; with fewer heads it has another size
    kept = BundleConfig.inference(folder).build("network").state_dict()
    weights = torch.load(bundle / "models" / "model.pt", map_location="cpu", weights_only=True)
    (folder / "models").mkdir()
    torch.save({key: weights[key] for key in kept}, folder / "models" / "model.pt")


def change_configs(bundle: Path, changes: Mapping[str, Mapping[str, Any]]) -> None:
    """Change configs and, alike, the recipe that they are rendered from, if there is one.

    Args:
        bundle: its folder.
        changes: name of a config, without ``.json`` → id (``a#b`` reaches into ``a``) → new value.
    """
    for name, values in changes.items():
        path = bundle / "configs" / f"{name}.json"
        parser = ConfigParser(json.loads(path.read_text()))
        parser.update(dict(values))
        path.write_text(json.dumps(parser.get(), indent=4) + "\n")
    path = bundle / RECIPE
    if path.is_file():
        recipe = ConfigParser.load_config_file(path)
        for name, values in changes.items():
            recipe[name]["override"] = recipe[name].get("override", {}) | dict(values)
        options = {"sort_keys": False, "allow_unicode": True, "width": 100}
        ConfigParser.export_config_file(recipe, path, fmt="yaml", **options)


def forget_uncertainty(bundle: Path) -> None:
    """Drop ``uncertainty_at_most`` from the metadata: it was measured with other weights."""
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    if metadata.get("uncertainty_at_most") is not None:
        change_configs(bundle, {"metadata": {"uncertainty_at_most": None}})


def _network_changes(config: dict[str, Any], network: GridNetwork, level: int) -> dict[str, Any]:
    """What a config of the full bundle must change: arguments that are given per level or head."""
    given, pruned = config["network_def"], network.pruned(level).config
    changes: dict[str, Any] = {
        f"network_def#{key}": list(value)
        for key, value in pruned.items()
        if value != network.config[key] and (key in given or key == "features")
    }
    changes["network_def#heads"] = [level]
    changes |= _larger_windows(config, network, level)
    if isinstance(config.get(_HEAD_WEIGHTS), list):
        changes[_HEAD_WEIGHTS] = config[_HEAD_WEIGHTS][:1]
    return changes


def _larger_windows(config: dict[str, Any], network: GridNetwork, level: int) -> dict[str, Any]:
    """The windows that `--level` would take, so that the pruned bundle gives the same masks."""
    parser = ConfigParser(config)
    inferer = parser.get_parsed_content("inferer") if "inferer" in config else None
    if not isinstance(inferer, OverlapTileInferer):
        return {}
    grown = inferer.grown(network, network.pruned(level))
    largest = grown.roi_size_max
    return {} if grown is inferer or largest is None else {"inferer#roi_size_max": list(largest)}
