"""Images a second of a recipe's own training step against MONAI's stock way to train the same.

The same network, loss, optimizer, augmentation and trainer. *Stock*: what MONAI does unless told
otherwise, that is float32 in torch's own memory format, AdamW parameter by parameter, gradients set
to zero, samples from ``CacheDataset`` with their metadata. *Recipe*: the bundle's ``train.json`` as
it is; *compiled*: with ``--compile True``, where there is a C++ compiler. Each has a process of its
own, as in a training, since what becomes of freed memory is the process's affair. They go through
the same cases in turn, A B C A B C; a pass holds everything between a sample in memory and the
optimizer's step. Prints a Markdown table and writes ``results/<date>-training-step.json``.

    python benchmarks/bench_training_step.py             # phantom pictures, about three minutes
    python benchmarks/bench_training_step.py --data nuclei_dsb2018 --epochs 20 --seeds 0 1 2

With ``--epochs`` all ways train that long from each seed through MONAI's command line, and the
Dice of the last epoch on the validation cases is compared: equal within 0.005 is what we ask for.
20 epochs of the nuclei are 600 steps: one to three minutes a training on two free cores.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from shutil import which
from statistics import mean, median
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser

from nestseg.bundle import locate
from nestseg_prep.cohort import cases
from nestseg_prep.volume import Volume

STOCK: dict[str, Any] = {
    "network": "$@network_def.to(@device)",
    "precision": "float32",
    "optimizer#fused": False,
    "train#trainer#optim_set_to_none": False,
    "initialize": ["$@rank", "$monai.utils.set_determinism(seed=@seed + @rank)"],
    "train#dataset": {
        "_target_": "CacheDataset",
        "data": "$cases(@dataset_dir, 'train')",
        "transform": "@train#preprocessing",
        "progress": False,
    },
}
WAYS: dict[str, dict[str, Any]] = {
    "stock": STOCK,
    "recipe": {},
    "recipe, compiled": {"compile": True},
}
if not (which("c++") or which("g++") or which("clang++")):
    del WAYS["recipe, compiled"]
_READY = "ready"
SIDE = {2: (256, 320, 1), 3: (48, 56, 48)}


def phantom_cases(number: int, dims: int) -> list[dict[str, Volume]]:
    """Noise with blobs in it: what is in a picture is all the same to the clock."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(number):
        image = random.normal(100, 20, SIDE[dims]).astype(np.float32)
        label = np.zeros(SIDE[dims], np.uint8)
        for centre in random.integers(0, SIDE[dims], (12, 3)):
            near = tuple(slice(max(0, c - 6), c + 6) for c in centre)
            label[near], image[near] = 1, image[near] + 60
        found.append({"image": Volume(image, np.eye(4)), "label": Volume(label, np.eye(4))})
    return found


def make_pass(bundle: str, overrides: dict[str, Any], drawn: list[Any]) -> Callable[[], None]:
    """A function that goes once through all cases."""
    parser = ConfigParser()
    parser.read_config(locate.find(bundle) / "configs" / "train.json")
    for key, value in overrides.items():
        parser[key] = value
    parser["train#dataset#data"] = drawn
    parser["train#handlers"] = []
    parser["epochs"] = 1
    parser.get_parsed_content("initialize")
    trainer = parser.get_parsed_content("train#trainer")
    trainer.logger.setLevel("ERROR")
    one_pass: Callable[[], None] = trainer.run
    return one_pass


def timed(one_pass: Callable[[], None]) -> tuple[float, float]:
    """Wall and CPU seconds of a pass."""
    wall, cpu = time.perf_counter(), time.process_time()
    one_pass()
    return time.perf_counter() - wall, time.process_time() - cpu


def drawn_cases(given: argparse.Namespace) -> list[Any]:
    """The cases of a pass."""
    recipe = ConfigParser.load_config_file(locate.find(given.bundle) / "configs" / "train.json")
    images = given.steps * recipe["batch_size"]
    if not given.data:
        return list(phantom_cases(images, recipe["network_def"]["spatial_dims"]))
    drawn = cases(given.data, "train")[:images]
    if len(drawn) < images:
        raise SystemExit(f"{given.data}: fewer than {images} training cases; give fewer --steps")
    return list(drawn)


def serve(given: argparse.Namespace) -> None:
    """A process of one way: one pass for each line that comes in, and how long it took."""
    one_pass = make_pass(given.bundle, WAYS[given.way], drawn_cases(given))
    one_pass()  # compiles, and fills caches
    print(_READY, flush=True)
    for _ in sys.stdin:
        print(json.dumps(timed(one_pass)), flush=True)


def compare_steps(given: argparse.Namespace) -> dict[str, Any]:
    """All ways in turn, each in its process."""
    images = len(drawn_cases(given))
    processes = {name: start(name) for name in WAYS}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for _ in range(given.rounds):
        for name, process in processes.items():
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
            taken[name].append(json.loads(answer(process)))
    for process in processes.values():
        process.communicate()
    walls, cpus = ({name: [r[k] for r in rounds] for name, rounds in taken.items()} for k in (0, 1))
    return {
        name: {
            "images_per_s": round(images / median(walls[name]), 3),
            "cpu_s_per_image": round(median(cpus[name]) / images, 4),
            "ratio": ratio(walls["stock"], walls[name]),
            "ratio_of_cpu": ratio(cpus["stock"], cpus[name]),
        }
        for name in WAYS
    }


def start(way: str) -> subprocess.Popen[str]:
    """The process of one way, once it is warm."""
    command = [sys.executable, __file__, *sys.argv[1:], "--way", way]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    while answer(process).strip() != _READY:
        pass
    return process


def answer(process: subprocess.Popen[str]) -> str:
    """Its next line."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"{process.args}: ended with {process.wait()}")
    return line


def ratio(stock: list[float], ours: list[float]) -> float:
    """The median of how many times less a pass took than the stock pass before it."""
    return round(median(a / b for a, b in zip(stock, ours, strict=True)), 3)


def compare_trainings(given: argparse.Namespace) -> dict[str, Any]:
    """Train both ways for the same epochs from each seed; Dice and CPU seconds."""
    found: dict[str, Any] = {}
    for name, overrides in WAYS.items():
        runs = [train(given, overrides, seed) for seed in given.seeds]
        found[name] = {
            "dice": [dice for dice, _ in runs],
            "mean_dice": round(mean(dice for dice, _ in runs), 4),
            "cpu_s": [cpu for _, cpu in runs],
        }
        found[name]["dice_difference"] = round(
            found[name]["mean_dice"] - found["stock"]["mean_dice"], 4
        )
    return found


def train(given: argparse.Namespace, overrides: dict[str, Any], seed: int) -> tuple[float, float]:
    """One training through the command line: the last validation's Dice, and CPU seconds."""
    folder = locate.find(given.bundle)
    with tempfile.TemporaryDirectory() as out:
        options = {
            "config_file": folder / "configs" / "train.json",
            "bundle_root": out,
            "dataset_dir": given.data.resolve(),
            "epochs": given.epochs,
            "val_interval": given.epochs,
            "seed": seed,
            **overrides,
        }
        command = [sys.executable, "-m", "monai.bundle", "run"]
        for key, value in options.items():
            command += [f"--{key}", str(value)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    scores = re.findall(r"val_mean_dice: ([\d.]+)", done.stdout + done.stderr)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return float(scores[-1]), round(used, 1)


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="nuclei_unetpp")
    parser.add_argument("--data", type=Path, help="its data set; without: phantoms")
    parser.add_argument("--steps", type=int, default=8, help="in a pass")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--way", choices=list(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int, default=0, help="train both ways this long")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, help="of the JSON")
    given = parser.parse_args()
    if given.epochs and not given.data:
        parser.error("--epochs wants --data")
    if given.way:
        serve(given)
        return
    now = datetime.now(UTC)
    steps = compare_steps(given)
    # The name of the data set alone: where it lies is this machine's affair.
    words = [given.data.name if word == str(given.data) else word for word in sys.argv[1:]]
    found = {
        "command": " ".join(["python", "benchmarks/bench_training_step.py", *words]),
        "date": now.isoformat(timespec="seconds"),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "load": os.getloadavg(),
        "bundle": given.bundle,
        "steps": steps,
        "trainings": compare_trainings(given) if given.epochs else None,
    }
    print("| way | images/s | CPU s an image | times faster | by CPU time |\n|---|---|---|---|---|")
    for name, row in steps.items():
        print("|", name, *(f"| {value:.3f}" for value in row.values()), "|")
    print(json.dumps(found["trainings"]))
    target = Path(__file__).parent / "results" / f"{now:%Y-%m-%d}-training-step.json"
    (given.out or target).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
