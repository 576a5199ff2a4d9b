"""How often a case goes through a network, said before it does: no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nestseg.bundle.flips import trained_axes
from nestseg.bundle.info import read_info
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
        InputError: the metadata of a bundle cannot be read, those of an ensemble have other labels
            than the first, or mirroring was asked of one that never saw a mirrored image.
    """
    folders = (bundle, *options.ensemble)
    members = [read_info(folder) for folder in folders]
    check_same_labels({member.name: member.labels for member in members})
    passes = len(members)
    if options.tta == "mirror":
        passes = 0
        for folder, member in zip(folders, members, strict=True):
            axes = trained_axes(folder, member.input_dims)
            check_mirrored(member.name, axes)
            passes += 2 ** len(axes)
    if passes == 1:
        return Cost(1, "")
    words = [f"ensemble of {len(members)} bundles"] if len(members) > 1 else []
    if options.tta == "mirror":
        words.append("test-time mirroring")
    sentence = f"{' with '.join(words)}: {passes} passes per case, about {passes} times the time"
    return Cost(passes, sentence)


def check_mirrored(bundle: str, axes: Sequence[int]) -> None:
    """Pass if a bundle can be asked for mirrored tiles.

    Raises:
        InputError: it knows no axis to mirror along.
    """
    if not axes:
        raise InputError(
            f"{bundle}: its training mirrored no image (RandFlipd in configs/train.json), so it "
            "answers worse to mirrored ones; run it without --tta"
        )


def names_sides(labels: Iterable[str]) -> bool:
    """Whether a label says left or right: mirrored, it would be the other one."""
    return any(_SIDE.search(label.replace("_", " ")) for label in labels)


def mirrored_axes(
    trained: Sequence[int], labels: Iterable[str], affine: npt.ArrayLike
) -> tuple[int, ...]:
    """Axes to mirror tiles along: those of the training, but not left to right where labels care.

    Args:
        trained: of :func:`nestseg.bundle.flips.trained_axes`.
        labels: names.
        affine: of the image that the network sees, voxel index → RAS mm.
    """
    across = int(np.abs(directions(affine)[0]).argmax()) if names_sides(labels) else None
    return tuple(axis for axis in trained if axis != across)


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


def _listed(labels: Mapping[int, str]) -> str:
    return ", ".join(f"{value} {label}" for value, label in labels.items())
