"""How often a case goes through a network, said before it does: no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nestseg.bundle.options import SegmentOptions
from nestseg_prep.affine import directions
from nestseg_prep.errors import InputError

_SIDE = re.compile(
    r"(?<![a-z0-9])(left|right|l|r|lt|rt|sin|dex|sinister|dexter|links|rechts|gauche|droite)"
    r"(?![a-z0-9])",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Cost:
    """What options cost against the bundle alone.

    Attributes:
        passes: how often each tile is computed, over all bundles.
        sentence: to say before the run; empty if there is one pass.
    """

    passes: int
    sentence: str


def cost(options: SegmentOptions, bundle: Path) -> Cost:
    """How many passes the options take.

    Args:
        options: of the run.
        bundle: folder of the first bundle.

    Raises:
        InputError: the metadata of a bundle cannot be read, or those of an ensemble have other
            labels than the first.
    """
    facts = [_facts(folder) for folder in (bundle, *options.ensemble)]
    check_same_labels({bundle.name: facts[0][0]} | _named(options.ensemble, facts[1:]))
    mirrored = [
        2 ** (dims - names_sides(labels.values())) if options.tta == "mirror" else 1
        for labels, dims in facts
    ]
    passes = sum(mirrored)
    if passes == 1:
        return Cost(1, "")
    words = []
    if len(facts) > 1:
        words.append(f"ensemble of {len(facts)} bundles")
    if options.tta == "mirror":
        sides = any(names_sides(labels.values()) for labels, _ in facts)
        words.append("test-time mirroring" + (", left and right kept apart" if sides else ""))
    what = " with ".join(words)
    return Cost(passes, f"{what}: {passes} passes per case, about {passes} times the time")


def names_sides(labels: Iterable[str]) -> bool:
    """Whether a label says left or right: mirrored, it would be the other one."""
    return any(_SIDE.search(label.replace("_", " ")) for label in labels)


def mirrored_axes(labels: Iterable[str], affine: npt.ArrayLike, dims: int) -> tuple[int, ...]:
    """Axes along which tiles may be mirrored: all, but not from left to right where labels care.

    Args:
        labels: names.
        affine: of the image that the network sees, voxel index → RAS mm.
        dims: of the network.
    """
    across = int(np.abs(directions(affine)[0]).argmax()) if names_sides(labels) else None
    return tuple(axis for axis in range(dims) if axis != across)


def check_same_labels(labels: Mapping[str, Mapping[int, str]]) -> None:
    """Pass if all bundles of an ensemble mean the same by every value.

    Args:
        labels: bundle → value → name.

    Raises:
        InputError: they do not.
    """
    (first, meant), *others = labels.items()
    for name, theirs in others:
        if dict(theirs) != dict(meant):
            raise InputError(
                f"{name}: labels {_listed(theirs)}, but {first} has {_listed(meant)}; "
                "an ensemble takes bundles with the same labels"
            )


def _named(
    folders: Sequence[Path], facts: Sequence[tuple[dict[int, str], int]]
) -> dict[str, dict[int, str]]:
    return {folder.name: labels for folder, (labels, _) in zip(folders, facts, strict=True)}


def _listed(labels: Mapping[int, str]) -> str:
    return ", ".join(f"{value} {label}" for value, label in labels.items())


def _facts(bundle: Path) -> tuple[dict[int, str], int]:
    """Labels of a bundle without the background, and the dimensions of its network."""
    try:
        metadata: dict[str, Any] = json.loads((bundle / "configs" / "metadata.json").read_text())
        data = metadata["network_data_format"]
        named = data["outputs"]["pred"]["channel_def"]
        labels = {int(value): str(label) for value, label in named.items() if int(value)}
        return labels, len(data["inputs"]["image"]["spatial_shape"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{bundle.name}: configs/metadata.json does not say its labels and dimensions; "
            "`nestseg bundle check` shows what is missing"
        ) from error
