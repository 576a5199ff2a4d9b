"""What a person should know before choosing a bundle or a level: size, measured Dice, seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nestseg.bundle.built import BundleConfig
from nestseg.networks.nodes import GridNetwork
from nestseg.pruning import record
from nestseg.pruning.choice import Level
from nestseg_prep.errors import InputError


def measured(source: Path, weights_sha256: str) -> dict[int, Level]:
    """Levels of a bundle as `nestseg prune` measured them, of these weights and no others.

    The record lies in the pruned bundle, which stands beside the bundle it was made from.
    """
    for folder in [source, *sorted(source.parent.glob("*/"))]:
        try:
            found = record.read(folder)
        except InputError:
            continue
        if found.source.weights_sha256 == weights_sha256:
            return {level.level: level for level in found.levels}
    return {}


def describe(
    config: BundleConfig, level: int | None, levels: dict[int, Level], *, as_it_came: bool
) -> str:
    """One text for MONAI Label's list of models.

    Args:
        config: inference config of the bundle.
        level: what it is pruned to; ``None`` for the whole network.
        levels: as :func:`measured` gives them.
        as_it_came: whether the weights are still those of the bundle, so that its card holds.
    """
    network = config.build("network_def")
    parts = [str(config.metadata["description"])]
    if isinstance(network, GridNetwork) and level is not None:
        parts.append(f"Level {level} of {network.levels[-1]}.")
        network = network.pruned(level)
    facts = [f"{sum(weight.numel() for weight in network.parameters()):,} parameters"]
    shown = levels.get(level if level is not None else max(levels, default=0))
    if shown is not None:
        facts += [f"Dice {shown.dice:.3f}", f"{shown.ms / 1000:.2f} s a case"]
    elif as_it_came and level is None:
        facts += _card(config.metadata)
    if not as_it_came:
        facts.append("fine-tuned here")
    return " ".join([*parts, f"({', '.join(facts)})"])


def _card(metadata: dict[str, Any]) -> list[str]:
    dice = metadata.get("eval_metrics", {}).get("val_mean_dice")
    return [f"Dice {dice:.3f}"] if isinstance(dice, float) else []
