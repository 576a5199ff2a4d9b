"""Trainings compared: four U-Nets on the nuclei from three seeds, three ResFCNs on the membranes.

Trains what is not yet in ``--runs`` through MONAI's command line, scores it on the validation
cases, and writes ``benchmarks/results/trainings.json``, which ``results_tables.py`` puts into
``docs/results.md``. Takes an hour and a half on one core.

    python benchmarks/compare_trainings.py --nuclei DIR --em DIR --runs DIR

Without ``--nuclei`` or ``--em``, what the file holds of those stays.
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


def nuclei_rows(data: Path, runs: Path) -> list[dict[str, Any]]:
    """Dice and IoU of each network from each seed."""
    rows = []
    for name, (bundle, overrides) in NUCLEI.items():
        scores = []
        for seed in SEEDS:
            weights = ROOT / "bundles" / bundle / "models" / "model.pt"  # of seed 0
            if seed or overrides:
                out = runs / f"{name.replace(' ', '_').replace(',', '')}_{seed}"
                train(bundle, data, out, {**overrides, "seed": seed})
                weights = out / "model.pt"
            scores.append(overlap(load(bundle, data, weights=weights, **overrides)))
        dice, iou = ([score[key] for score in scores] for key in ("dice", "iou"))
        rows.append(
            {
                "name": name,
                "seeds": " / ".join(f"{value:.4f}" for value in dice),
                "dice": mean(dice),
                "sd": stdev(dice),
                "iou": mean(iou),
            }
        )
    return rows


def skip_rows(data: Path, runs: Path) -> list[dict[str, Any]]:
    """The last training loss and the best Dice with and without each kind of skip."""
    rows = []
    for name, (bundle, overrides) in SKIPS.items():
        out = runs / name.replace(" ", "_")
        train(bundle, data, out, overrides)
        losses = re.findall(r"train_loss: ([\d.]+)", (out / "train.log").read_text())
        model = load(bundle, data, weights=out / "model.pt", **overrides)
        last = [float(loss) for loss in losses[-5:]]
        rows.append({"name": name, "loss": mean(last), **overlap(model)})
    return rows


def main() -> None:
    """Train, score, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nuclei", type=Path, help="folder nuclei_dsb2018")
    parser.add_argument("--em", type=Path, help="folder em_isbi2012")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the trainings")
    given = parser.parse_args()
    target = ROOT / "benchmarks" / "results" / "trainings.json"
    found = json.loads(target.read_text()) if target.exists() else {}
    if given.nuclei:
        found["nuclei"] = nuclei_rows(given.nuclei, given.runs)
    if given.em:
        found["skips"] = skip_rows(given.em, given.runs)
    target.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
