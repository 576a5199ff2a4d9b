"""What the uncertainty tells and what mirroring brings, on the validation cases of a data set.

    python benchmarks/uncertainty.py BUNDLE DATA [--ways default mirrored half-tiles]

For each case the mean Dice over the labels and the uncertainty, as the bundle runs by default, with
mirrored tiles, or with tiles of half the size; then Spearman's rank correlation between the
uncertainty and 1 - Dice, and the largest uncertainty: rounded up, that of the default way is the
bundle's ``uncertainty_at_most``. Prints Markdown tables. Test cases are never opened.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from monai.bundle import ConfigParser
from scipy.stats import spearmanr

from nestseg.bundle.bundle import load_bundle
from nestseg.bundle.options import SegmentOptions
from nestseg.pruning.scores import score
from nestseg.pruning.validation import Case, read_image, truth_reader

WAYS = {
    "default": SegmentOptions(),
    "mirrored": SegmentOptions(tta="mirror"),
    "half-tiles": SegmentOptions(gentle=True),
}
TOLERANCE_MM = 1.0


def validation_cases(bundle: Path, data: Path) -> list[Case]:
    """The cases by which a bundle's training chooses its weights."""
    parser = ConfigParser()
    parser.read_config(bundle / "configs" / "train.json")
    parser["bundle_root"], parser["dataset_dir"] = str(bundle), str(data)
    found: list[Case] = parser.get_parsed_content("validate#dataset#data")
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["default", "mirrored"])
    given = parser.parse_args()
    ways: list[str] = given.ways
    bundle, read_truth = load_bundle(given.bundle, caged=False), truth_reader(given.bundle)
    dice: dict[str, list[float]] = {way: [] for way in ways}
    spread: dict[str, list[float]] = {way: [] for way in ways}
    seconds = dict.fromkeys(ways, 0.0)
    print(f"| case | {' | '.join(f'Dice, {way} | uncertainty' for way in ways)} |")
    print("|---|" + "---:|---:|" * len(ways))
    for number, case in enumerate(validation_cases(given.bundle, given.data)):
        image, truth = read_image(case["image"]), read_truth(case)
        for way in ways:
            start = time.process_time()
            found = bundle.predict(image, WAYS[way])
            seconds[way] += time.process_time() - start
            scores = score(found.mask, truth, len(bundle.info.labels), TOLERANCE_MM)
            dice[way].append(float(np.nanmean(scores.dice.numpy())))
            spread[way].append(float("nan") if found.uncertainty is None else found.uncertainty)
        row = " | ".join(f"{dice[way][-1]:.4f} | {spread[way][-1]:.4f}" for way in ways)
        print(f"| {number} | {row} |", flush=True)
    print(
        "\n| | mean Dice | Spearman of uncertainty and 1 - Dice | p | largest uncertainty "
        "| CPU seconds per case |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    for way in ways:
        found_rank = spearmanr(spread[way], 1 - np.array(dice[way]), nan_policy="omit")
        rank, p = float(found_rank.statistic), float(found_rank.pvalue)
        each = seconds[way] / len(dice[way])
        measured = f"{np.mean(dice[way]):.4f} | {rank:.2f} | {p:.3f} | {np.nanmax(spread[way]):.5f}"
        print(f"| {way} | {measured} | {each:.1f} |")


if __name__ == "__main__":
    main()
