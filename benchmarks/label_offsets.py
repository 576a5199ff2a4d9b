"""How far the manual labels of a data set lie beside their images, as a bundle's masks see it.

    python benchmarks/label_offsets.py BUNDLE DATA [--split val]

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

from nestseg.bundle import loaded
from nestseg.pruning.scores import score
from nestseg.pruning.validation import read_image, truth_reader
from nestseg_prep.cohort import cases

STEPS = (0.0, -0.5, 0.5, -1.0, 1.0)
WORTH = 0.005
"""Dice by which a moved label must fit better: half steps smooth it, which helps a little alone."""
TOLERANCE_MM = 1.0

Mask = NDArray[np.bool_]
Offset = tuple[float, ...]


def dice(a: Mask, b: Mask) -> float:
    """Of two masks, neither empty."""
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def best_offset(mask: Mask, label: Mask) -> tuple[float, Offset]:
    """The best Dice, and the offset of the label that reaches it: none where it is worth little."""
    still: Offset = (0.0,) * label.ndim
    found = {still: dice(mask, label)}
    for offset in itertools.product(STEPS, repeat=label.ndim):
        if offset != still:
            found[offset] = dice(mask, shift(label.astype(np.float32), offset, order=1) > 0.5)
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
    bundle, read_truth = loaded.load(given.bundle), truth_reader(given.bundle)
    rows = []
    print("| case | mean Dice | Dice, labels joined | moved | by (voxels) |")
    print("|---|---:|---:|---:|---|")
    for number, case in enumerate(cases(given.data, given.split)):
        truth = read_truth(case)
        mask = bundle.segment(read_image(case["image"]))
        each = float(np.nanmean(score(mask, truth, len(bundle.labels), TOLERANCE_MM).dice.numpy()))
        joined = dice(mask.array > 0, truth.array > 0)
        moved, offset = best_offset(mask.array > 0, truth.array > 0)
        rows.append((each, joined, moved))
        steps = " ".join(f"{step:+g}" for step in offset) if any(offset) else ""
        print(f"| {number} | {each:.3f} | {joined:.3f} | {moved:.3f} | {steps} |", flush=True)
    mean = " | ".join(f"{value:.4f}" for value in np.mean(rows, axis=0))
    print(f"| mean | {mean} | |")


if __name__ == "__main__":
    main()
