"""How far the manual labels of a data set lie beside their images, as a bundle's masks see it.

    python -m benchmarks.label_offsets BUNDLE DATA [--split val]

A mask that fits its label better once the whole label is moved by a voxel tells of a label that was
stored beside its image: no network can learn which cases these are, and each costs mean Dice. For
each case, by its number: the mean Dice over the labels; the Dice of all labels joined, as they are
and moved by the steps of half a voxel (within one voxel, along the axes of the label's own grid)
that fit best; and these steps. Prints a Markdown table. Weigh no choice by the test cases.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import shift

from benchmarks.peers.agreement import mean_dice
from nestseg.bundle.bundle import load_bundle
from nestseg.pruning.validation import read_image, truth_reader
from nestseg_prep.cohort import cases

STEPS = (0.0, -0.5, 0.5, -1.0, 1.0)
WORTH = 0.005
"""Dice by which a moved label must fit better: half steps smooth it, which helps a little alone."""

Mask = NDArray[np.bool_]
Offset = tuple[float, ...]


def best_offset(mask: Mask, label: Mask) -> tuple[float, Offset]:
    """Where a label fits a mask best.

    Args:
        mask: ``(*spatial)``, of all classes joined.
        label: likewise, on the same grid.

    Returns:
        The Dice there, and the way in voxels from where the label is stored; all 0 unless another
        place is worth it.

    Raises:
        ValueError: the grids have different shapes.
    """
    still: Offset = (0.0,) * label.ndim
    found = {still: mean_dice(mask, label)}
    for offset in itertools.product(STEPS, repeat=label.ndim):
        if offset != still:
            found[offset] = mean_dice(mask, shift(label.astype(np.float32), offset, order=1) > 0.5)
    best = max(found, key=lambda offset: found[offset])
    best = best if found[best] > found[still] + WORTH else still
    return found[best], best


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", choices=("train", "val", "test"), default="val")
    given = parser.parse_args()
    bundle, read_truth = load_bundle(given.bundle, caged=False), truth_reader(given.bundle)
    rows = []
    print("| case | mean Dice | Dice, labels joined | moved | by (voxels) |")
    print("|---|---:|---:|---:|---|")
    for number, case in enumerate(cases(given.data, given.split)):
        truth = read_truth(case).array.astype(np.uint8)
        mask = bundle.predict(read_image(case["image"])).mask.array
        each, joined = mean_dice(mask, truth), mean_dice(mask > 0, truth > 0)
        moved, offset = best_offset(mask > 0, truth > 0)
        rows.append((each, joined, moved))
        steps = " ".join(f"{step:+g}" for step in offset) if any(offset) else ""
        print(f"| {number} | {each:.3f} | {joined:.3f} | {moved:.3f} | {steps} |", flush=True)
    mean = " | ".join(f"{value:.4f}" for value in np.mean(rows, axis=0))
    print(f"| mean | {mean} | |")


if __name__ == "__main__":
    main()
