"""The tables of docs/results.md: the committed bundles on the validation cases of two data sets.

Scores every bundle ``nuclei_*`` and ``em_*`` and each level of ``nuclei_unetpp``, measures the time
per picture (networks taken in turn, median of three rounds), and writes ``docs/results.md`` and
``benchmarks/results/bundles.json``.

    python benchmarks/results_tables.py --nuclei DIR --em DIR

Without the folders the page is written from what was measured last.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import active_learning
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.inferers import Inferer
from monai.transforms import Compose
from torch import Tensor, nn

from nestseg.metrics import pixel_error, segments_of, v_info, v_rand, warping_error
from nestseg.networks.weights import read_state_dict

ROOT = Path(__file__).parents[1]
ROUNDS = 3
TIMED = 3
THRESHOLDS = np.arange(0.1, 0.95, 0.1)

Row = dict[str, Any]


@dataclass(frozen=True)
class Model:
    """A network with weights and what its bundle does around it."""

    name: str
    network: nn.Module
    inferer: Inferer
    images: list[Tensor]
    truths: list[np.ndarray]

    def cells(self, number: int) -> np.ndarray:
        """Probability of foreground, ``(columns, rows)``, of one validation picture."""
        with torch.inference_mode():
            logits = self.inferer(self.images[number], self.network)
        return np.asarray(logits.softmax(1)[0, 1, :, :, 0])

    def seconds(self, number: int) -> float:
        """Wall time of the network on one picture."""
        start = time.perf_counter()
        self.cells(number)
        return time.perf_counter() - start

    @property
    def parameters(self) -> int:
        """How many there are, in millions of none: the plain number."""
        return sum(parameter.numel() for parameter in self.network.parameters())


def load(bundle: str, data: Path, *, weights: Path | None = None, **overrides: object) -> Model:
    """A bundle with its validation cases in memory; other weights than its own where given."""
    folder = ROOT / "bundles" / bundle
    parser = ConfigParser()
    parser.read_config(folder / "configs" / "train.json")
    parser["dataset_dir"] = str(data)
    for key, value in overrides.items():
        parser[key] = value
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(read_state_dict(weights or folder / "models" / "model.pt"))
    prepare: Compose = parser.get_parsed_content("validate#preprocessing")
    cases = [prepare(case) for case in parser.get_parsed_content("validate#dataset#data")]
    return Model(
        bundle,
        network,
        parser.get_parsed_content("inferer"),
        [case["image"][None].as_tensor() for case in cases],
        [np.asarray(case["label"][0, :, :, 0]) > 0 for case in cases],
    )


def levels(model: Model) -> list[Model]:
    """The pruned networks of a UNet++, L1 first."""
    network: Any = model.network
    return [
        Model(f"L{k}", network.pruned(k).eval(), model.inferer, model.images, model.truths)
        for k in network.levels
    ]


def overlap(model: Model) -> Row:
    """Dice and IoU, means over the pictures."""
    dice, iou = [], []
    for number, truth in enumerate(model.truths):
        mask = model.cells(number) > 0.5
        both, either = (mask & truth).sum(), (mask | truth).sum()
        dice.append(2 * both / (mask.sum() + truth.sum()) if either else 1.0)
        iou.append(both / either if either else 1.0)
    return {"dice": float(np.mean(dice)), "iou": float(np.mean(iou))}


def membranes(model: Model) -> Row:
    """The scores of the ISBI 2012 challenge; the threshold that is best for V_rand is stated."""
    cells = [model.cells(number) for number in range(len(model.truths))]
    truths = [segments_of(truth) * truth for truth in model.truths]

    def rand_at(threshold: float) -> float:
        pairs = zip(cells, truths, strict=True)
        return mean(v_rand(segments_of(p > threshold), truth).f_score for p, truth in pairs)

    best = float(max(THRESHOLDS, key=rand_at))
    pairs = list(zip(cells, model.truths, truths, strict=True))
    return {
        "threshold": best,
        "v_rand": rand_at(best),
        "v_info": mean(v_info(segments_of(p > best), numbered).f_score for p, _, numbered in pairs),
        "pixel_error": mean(pixel_error(p > 0.5, truth) for p, truth, _ in pairs),
        "warping_error": mean(warping_error(p, truth) for p, truth, _ in pairs),
    }


def measured(models: list[Model], score: Callable[[Model], Row]) -> list[Row]:
    """A row for each model: its scores, its size and its time, the models timed in turn."""
    times: dict[str, list[float]] = {model.name: [] for model in models}
    for _ in range(ROUNDS):
        for model in models:
            count = min(TIMED, len(model.images))
            times[model.name].append(mean(model.seconds(number) for number in range(count)))
    return [
        {
            "name": model.name,
            "parameters": model.parameters,
            **score(model),
            "seconds": median(times[model.name]),
        }
        for model in models
    ]


def windows_one_by_one(model: Model, pixels: int = 256) -> Row:
    """The window classifier's dense evaluation against one forward pass for each pixel's window."""
    network: Any = model.network
    image, margin = model.images[0][..., 0], network.window // 2
    side = 16 + 2 * margin
    part = image[:, :, :side, :side]
    with torch.inference_mode():
        windows = part.unfold(2, network.window, 1).unfold(3, network.window, 1)
        flat = windows.reshape(-1, 1, network.window, network.window)[:pixels]
        start = time.perf_counter()
        single = torch.cat([network(chunk) for chunk in flat.split(64)]).flatten(1)
        per_pixel = (time.perf_counter() - start) / pixels
        dense = network(part).flatten(2)[0].T[:pixels]
        start = time.perf_counter()
        model.cells(0)
        whole = time.perf_counter() - start
    count = image.shape[2] * image.shape[3]
    return {
        "dense_seconds": whole,
        "window_seconds": per_pixel * count,
        "ratio": per_pixel * count / whole,
        "largest_difference": float((single - dense).abs().max()),
    }


def names(prefix: str) -> list[str]:
    """The bundles of a data set."""
    return sorted(path.name for path in (ROOT / "bundles").glob(f"{prefix}_*"))


def measure(nuclei: Path, em: Path) -> Row:
    """All tables as data."""
    pictures = [load(name, nuclei) for name in names("nuclei")]
    sections = [load(name, em) for name in names("em")]
    unetpp = next(model for model in pictures if model.name == "nuclei_unetpp")
    window = next(model for model in sections if model.name == "em_window")
    return {
        "threads": torch.get_num_threads(),
        "nuclei": measured(pictures, overlap),
        "levels": measured(levels(unetpp), overlap),
        "em": measured(sections, membranes),
        "window": windows_one_by_one(window),
    }


def table(rows: list[Row], columns: dict[str, tuple[str, str]]) -> str:
    """A Markdown table; ``columns`` maps keys to headings and formats."""
    head = "| " + " | ".join(title for title, _ in columns.values()) + " |"
    body = [
        "| " + " | ".join(format(row[key], form) for key, (_, form) in columns.items()) + " |"
        for row in rows
    ]
    return "\n".join([head, "|---" * len(columns) + "|", *body])


def page(found: Row) -> str:
    """``docs/results.md`` from the figures."""
    size = {"name": ("bundle", ""), "parameters": ("parameters", ",")}
    timed = {"seconds": ("s a picture", ".3f")}
    both = {"dice": ("Dice", ".4f"), "iou": ("IoU", ".4f")}
    scores = {
        "v_rand": ("V_rand", ".4f"),
        "v_info": ("V_info", ".4f"),
        "threshold": ("at threshold", ".1f"),
        "pixel_error": ("pixel error", ".4f"),
        "warping_error": ("warping error", ".5f"),
    }
    trainings = ROOT / "benchmarks" / "results" / "trainings.json"
    labelling = ROOT / "benchmarks" / "results" / "active_learning.json"
    by_dice = sorted(found["nuclei"], key=lambda row: -row["dice"])
    window = found["window"]
    return f"""# Results

Written by

```
python benchmarks/results_tables.py --nuclei nuclei_dsb2018 --em em_isbi2012
```

from the committed weights, on the validation cases of both data sets, on a CPU with \
{found["threads"]} threads. The validation cases also chose each checkpoint, so all scores are a \
little too good, and alike so. Times are those of the network alone.

## Nuclei: one recipe, ten networks

29 pictures of Data Science Bowl 2018, stage 1; means over pictures. Trained alike by \
`bundles/_parts/train_nuclei.yaml` with seed 0, narrow and for a few minutes each.

{table(by_dice, size | both | timed)}

### UNet++ pruned

One training with deep supervision; L1 to L4 are its parts.

{table(found["levels"], size | both | timed)}

## Membranes

The last five of the 30 sections of ISBI 2012; means over sections. V_rand and V_info are \
foreground-restricted, at the threshold that is best for V_rand; the other two at 0.5.

{table(found["em"], size | scores | timed)}

The window classifier evaluates a section densely in {window["dense_seconds"]:.2f} s; one window \
for each pixel would take {window["window_seconds"]:.0f} s, {window["ratio"]:.0f} times as long, \
and give the same logits (largest difference {window["largest_difference"]:.0e}).
{comparisons(json.loads(trainings.read_text())) if trainings.exists() else ""}\
{active_learning.section(json.loads(labelling.read_text())) if labelling.exists() else ""}"""


def comparisons(found: Row) -> str:
    """What ``compare_trainings.py`` found, as a section of the page."""
    nuclei = {
        "name": ("network", ""),
        "seeds": ("Dice from seeds 0, 1, 2", ""),
        "dice": ("mean", ".4f"),
        "sd": ("sd", ".4f"),
        "iou": ("IoU", ".4f"),
    }
    skips = {
        "name": ("ResFCN with", ""),
        "loss": ("training loss", ".4f"),
        "dice": ("Dice", ".4f"),
    }
    text = """
## Do the papers' orders hold?

```
python benchmarks/compare_trainings.py --nuclei nuclei_dsb2018 --em em_isbi2012 --runs RUNS
```
"""
    if found.get("nuclei"):
        order = " ≥ ".join(row["name"] for row in sorted(found["nuclei"], key=lambda r: -r["dice"]))
        text += f"""
{table(found["nuclei"], nuclei)}

Zhou et al. 2018 found UNet++ with deep supervision ≥ UNet++ ≥ wide U-Net ≥ U-Net. Here, by the \
mean of three seeds: {order}. Differences smaller than the standard deviation between seeds say \
nothing.
"""
    if found.get("skips"):
        losses = " < ".join(row["name"] for row in sorted(found["skips"], key=lambda r: r["loss"]))
        text += f"""
{table(found["skips"], skips)}

The training loss is the mean of the last five epochs. Drozdzal et al. 2016 (table 2) found long \
and short skips < long skips only < short skips only. Here, from one seed: {losses}.
"""
    return text


def main() -> None:
    """Measure, then write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nuclei", type=Path, help="folder nuclei_dsb2018")
    parser.add_argument("--em", type=Path, help="folder em_isbi2012")
    given = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    measured = ROOT / "benchmarks" / "results" / "bundles.json"
    if given.nuclei and given.em:
        found = measure(given.nuclei, given.em)
        measured.write_text(json.dumps(found, indent=1))
    else:
        found = json.loads(measured.read_text())
    (ROOT / "docs" / "results.md").write_text(page(found))


if __name__ == "__main__":
    main()
