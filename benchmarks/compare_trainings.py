"""Trainings compared: four U-Nets on the nuclei from three seeds, three ResFCNs on the membranes.

Trains what is not yet in ``--runs`` through MONAI's command line, scores it on the validation
cases, and writes ``benchmarks/results/trainings.json``, which ``results_tables.py`` puts into
``docs/results.md``. Takes an hour and a half on one core.

    python benchmarks/compare_trainings.py --nuclei DIR --em DIR --runs DIR

Rows that the file holds already stay; delete them, or the file, to measure them again.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from results_tables import ROOT, load, overlap

Row = dict[str, Any]

SEEDS = (0, 1, 2)
ONE_HEAD = {"network_def#heads": [4], "deep_supervision_weights": [1.0]}
NUCLEI: dict[str, tuple[str, dict[str, Any]]] = {
    "U-Net": ("nuclei_unet", {}),
    "wide U-Net": ("nuclei_unet_wide", {}),
    "UNet++, one head": ("nuclei_unetpp", ONE_HEAD),
    "UNet++, deep supervision": ("nuclei_unetpp", {}),
}
SKIPS: dict[str, tuple[str, dict[str, Any]]] = {
    "long and short skips": ("em_resfcn", {}),
    "long skips only": ("em_resfcn", {"network_def#short_skips": False}),
    "short skips only": ("em_resfcn", {"network_def#long_skips": "none"}),
}


def train(bundle: str, data: Path, out: Path, overrides: dict[str, Any]) -> None:
    """Train into ``out`` unless that was done before."""
    if (out / "done").exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    folder = ROOT / "bundles" / bundle
    options = {
        "config_file": folder / "configs" / "train.json",
        "bundle_root": folder,
        "dataset_dir": data,
        "ckpt_dir": out,
        "output_dir": out / "runs",
        **overrides,
    }
    words = [sys.executable, "-m", "monai.bundle", "run"]
    for name, value in options.items():
        words += [f"--{name}", str(value)]
    with (out / "train.log").open("w") as log:
        subprocess.run(words, check=True, stdout=log, stderr=subprocess.STDOUT)
    (out / "done").touch()


def nuclei_row(name: str, data: Path, runs: Path) -> Row:
    """Dice and IoU of a network from each seed."""
    bundle, overrides = NUCLEI[name]
    scores = []
    for seed in SEEDS:
        weights = ROOT / "bundles" / bundle / "models" / "model.pt"  # of seed 0
        if seed or overrides:
            out = runs / f"{name.replace(' ', '_').replace(',', '')}_{seed}"
            train(bundle, data, out, {**overrides, "seed": seed})
            weights = out / "model.pt"
        scores.append(overlap(load(bundle, data, weights=weights, **overrides)))
    dice, iou = ([score[key] for score in scores] for key in ("dice", "iou"))
    return {
        "name": name,
        "seeds": " / ".join(f"{value:.4f}" for value in dice),
        "dice": mean(dice),
        "sd": stdev(dice),
        "iou": mean(iou),
    }


def skip_row(name: str, data: Path, runs: Path) -> Row:
    """The last training loss and the best Dice with one kind of skip, or both."""
    bundle, overrides = SKIPS[name]
    out = runs / name.replace(" ", "_")
    train(bundle, data, out, overrides)
    losses = re.findall(r"train_loss: ([\d.]+)", (out / "train.log").read_text())
    model = load(bundle, data, weights=out / "model.pt", **overrides)
    last = [float(loss) for loss in losses[-5:]]
    return {"name": name, "loss": mean(last), **overlap(model)}


def main() -> None:
    """Train, score, write each row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nuclei", type=Path, help="folder nuclei_dsb2018")
    parser.add_argument("--em", type=Path, help="folder em_isbi2012")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the trainings")
    given = parser.parse_args()
    target = ROOT / "benchmarks" / "results" / "trainings.json"
    found: dict[str, list[Row]] = json.loads(target.read_text()) if target.exists() else {}
    for section, names, data, row in (
        ("nuclei", NUCLEI, given.nuclei, nuclei_row),
        ("skips", SKIPS, given.em, skip_row),
    ):
        rows = found.setdefault(section, [])
        known = {one["name"] for one in rows}
        for name in names if data else ():
            if name not in known:
                rows.append(row(name, data, given.runs))
                target.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
