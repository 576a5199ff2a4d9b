"""Active learning simulated: which images to label next, by head disagreement or at random.

A pool of training images of the hippocampus is "unlabelled"; a start of ten is labelled, and in
each round ten more, either those on which the heads of the network disagree most or any ten. In
each round a UNet++ learns on from its weights with all that is labelled, by the same functions as
the label server, and is scored on the test images, which play no other part. Both ways begin with
the same ten images and the same weights of a seed.

    python benchmarks/active_learning.py --data hippocampus_msd04 --runs DIR

Trainings are kept in ``--runs``; a second run goes on where the first stopped. Writes
``benchmarks/results/active_learning.json`` and the last section of ``docs/results.md``. The network
is half as wide as the bundle's and learns for 300 steps a round: 15 trainings of some minutes on
one core.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from nestseg.bundle.bundle import load_bundle
from nestseg.label import training
from nestseg.label.cases import Labelled
from nestseg.label.uncertainty import Uncertainty
from nestseg.pruning.candidates import change_configs
from nestseg_prep.cohort import cases
from nestseg_prep.nifti import read_nifti

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "active_learning.json"
PAGE = ROOT / "docs" / "results.md"
TITLE = "## Active learning"
BUNDLE = "hippocampus_unetpp"
SETTINGS: dict[str, Any] = {
    "start": 10,
    "step": 10,
    "rounds": 3,
    "seeds": [0, 1, 2],
    "features": [8, 16, 32, 64],
    "steps_of_training": 300,
    "batch": 4,
}
PATCH = [32, 48, 32]
ARMS = ("head disagreement", "random")


def listed(data: Path, split: str) -> list[Labelled]:
    """The cases of a split."""
    found = cases(data, split)
    return [Labelled(Path(c["image"]).name, Path(c["image"]), Path(c["label"])) for c in found]


def augment(bundle: Path) -> list[dict[str, Any]]:
    """The recipe's augmentation with larger turns, and with elastic deformation."""
    config = json.loads((bundle / "configs" / "train.json").read_text())
    first, *others = config["augment"]
    larger = {"rotate_range": [0.4] * 3, "scale_range": [0.25] * 3}
    deform = {
        "_target_": "RandSmoothDeformd",
        "keys": "@keys",
        "prob": 0.4,
        "spatial_size": "@train_size",
        "rand_size": [5, 7, 5],
        "def_range": 0.1,
        "grid_mode": ["bilinear", "nearest"],
        "grid_padding_mode": "reflection",
    }
    return [first | larger, *others, deform]


def bundle_for(seed: int, runs: Path) -> Path:
    """A narrower copy of the bundle, without weights."""
    copy = runs / f"seed{seed}" / BUNDLE
    if copy.is_dir():
        return copy
    source = ROOT / "bundles" / BUNDLE
    shutil.copytree(source / "configs", copy / "configs")
    narrow = {"network_def#features": SETTINGS["features"]}
    # No epoch is chosen: the last one counts, so that the validation cases decide nothing.
    last = {"seed": seed, "val_interval": 10**6, "batch_size": SETTINGS["batch"]}
    # What costs least on a CPU: small patches in torch's own memory format, varied the more.
    last |= {"network": "$@network_def.to(@device)", "train_size": PATCH, "augment": augment(copy)}
    last["fit#0#spatial_size"] = [n + 8 for n in PATCH]
    change_configs(copy, {"train": narrow | last, "inference": narrow})
    return copy


def trained(bundle: Path, chosen: list[Labelled], validation: list[Labelled], folder: Path) -> Path:
    """The bundle trained on some cases from the weights that it has, if any; done once."""
    done = folder / BUNDLE / "models" / "model.pt"
    if not done.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        a_pass = -(-len(chosen) // SETTINGS["batch"])
        epochs = -(-SETTINGS["steps_of_training"] // a_pass)
        options = training.Options(epochs, early_stop=0, from_scratch=False)
        training.train(bundle, chosen, validation, options, folder)
    return folder / BUNDLE


def more(arm: str, model: Path, pool: list[Labelled], seed: int) -> list[Labelled]:
    """The next images to label."""
    if arm == "random":
        draw = random.Random(f"{seed} {len(pool)}")  # noqa: S311
        return draw.sample(pool, SETTINGS["step"])
    unsure = Uncertainty(model)
    scores = {c.id: unsure.measure(read_nifti(c.image))["head_disagreement"] for c in pool}
    return sorted(pool, key=lambda case: -scores[case.id])[: SETTINGS["step"]]


def curve(arm: str, seed: int, data: Path, runs: Path) -> list[float]:
    """Dice on the test images after each round."""
    everything, test = listed(data, "train"), listed(data, "test")
    validation = listed(data, "val")[:1]  # the trainer wants one; it decides nothing
    model = bundle_for(seed, runs)
    chosen = random.Random(seed).sample(everything, SETTINGS["start"])  # noqa: S311
    dice = []
    for number in range(SETTINGS["rounds"]):
        name = f"round{number}" + (f"_{arm.replace(' ', '_')}" if number else "")
        model = trained(model, chosen, validation, runs / f"seed{seed}" / name)
        dice.append(round(training.mean_dice(load_bundle(model, caged=False), test), 4))
        print(f"seed {seed}, {arm}, {len(chosen)} labelled: {dice[-1]}", flush=True)
        if number + 1 < SETTINGS["rounds"]:
            pool = [case for case in everything if case not in chosen]
            chosen += more(arm, model, pool, seed)
    return dice


def section(found: dict[str, Any]) -> str:
    """The curves as the last section of ``docs/results.md``."""
    settings, curves = found["settings"], found["curves"]
    sizes = [settings["start"] + n * settings["step"] for n in range(settings["rounds"])]
    text = f"""
{TITLE}

Simulated on the hippocampus by `benchmarks/active_learning.py`: {settings["start"]} images are \
labelled at the start and {settings["step"]} more in each round, those on which the heads of a \
UNet++ disagree most, or any. Each round trains on from the weights of the last with all that is \
labelled ({settings["steps_of_training"]} steps of {settings["batch"]} crops, \
{settings["features"]} channels): curves rise with the steps too, alike for both ways. Mean Dice \
on the 20 test images, over {len(settings["seeds"])} seeds, with the standard deviation.

| labelled | {" | ".join(ARMS)} | difference, seed by seed |
|---:|{"---:|" * len(ARMS)}---|
"""
    for number, size in enumerate(sizes):
        rows = {arm: [one[number] for one in curves[arm]] for arm in ARMS}
        cells = [f"{mean(row):.4f} ± {stdev(row):.4f}" for row in rows.values()]
        gains = ", ".join(f"{a - b:+.4f}" for a, b in zip(*rows.values(), strict=True))
        text += f"| {size} | {' | '.join(cells)} | {gains} |\n"
    return text


def main() -> None:
    """Simulate, then write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder hippocampus_msd04")
    parser.add_argument("--runs", type=Path, required=True, help="where trainings are kept")
    given = parser.parse_args()
    curves = {
        arm: [curve(arm, seed, given.data, given.runs) for seed in SETTINGS["seeds"]]
        for arm in ARMS
    }
    found = {"settings": SETTINGS, "curves": curves}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    before = PAGE.read_text().partition(f"\n{TITLE}")[0].rstrip("\n")
    PAGE.write_text(f"{before}\n{section(found)}")


if __name__ == "__main__":
    main()
