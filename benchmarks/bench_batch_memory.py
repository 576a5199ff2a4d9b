"""Memory of a long batch: peak RSS of `nestseg segment` and of its worker while cases go by.

A network of two levels with random weights, so that 200 cases take minutes: what grows, if
anything, is what the batch keeps of each case. Prints a Markdown table.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import torch

from nestseg.bundle import locate
from nestseg.networks import GridUNet
from nestseg_prep.nifti import write_nifti
from nestseg_prep.volume import Volume

CASES = 200
LOOKS = (1, 20, 50, 100, 200)


def main() -> None:
    """Run the batch and look at both processes now and then."""
    with tempfile.TemporaryDirectory(prefix="nestseg-memory-") as name:
        folder = Path(name)
        bundle = small_bundle(folder / "tiny")
        write_images(folder / "images", CASES)
        print("| case | runner MB | worker MB |\n|---|---|---|")
        for count, runner, worker in peaks(bundle, folder / "images", folder / "out"):
            if count in LOOKS:
                print(f"| {count} | {runner:.0f} | {worker:.0f} |")


def peaks(bundle: Path, images: Path, out: Path) -> Iterator[tuple[int, float, float]]:
    """After each case: its number, and the peak RSS of runner and worker so far, in MB."""
    words = ["segment", images, "-b", bundle, "-o", out, "--trust", "--log-json"]
    command = [sys.executable, "-m", "nestseg.cli", *map(str, words)]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr is not None
        count = 0
        for line in process.stderr:
            if '"done"' in line:
                count += 1
                (worker,) = psutil.Process(process.pid).children()
                yield count, peak_mb(process.pid), peak_mb(worker.pid)
    assert process.returncode == 0


def peak_mb(pid: int) -> float:
    """Peak RSS of a process, as Linux keeps it."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def small_bundle(folder: Path) -> Path:
    """The hippocampus bundle with a network of two levels."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    for path in (locate.find("hippocampus_unetpp") / "configs").iterdir():
        (folder / "configs" / path.name).write_bytes(path.read_bytes())
    path = folder / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["network_def"] |= {"features": [4, 8]}
    config["roi_size"] = [32, 32, 32]
    path.write_text(json.dumps(config))
    arguments = {key: value for key, value in config["network_def"].items() if key != "_target_"}
    torch.manual_seed(0)
    network = GridUNet(**arguments | {"out_channels": 3})
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    return folder


def write_images(folder: Path, count: int) -> None:
    """Noise of the size of a hippocampus crop."""
    folder.mkdir()
    for number in range(count):
        noise = np.random.default_rng(number).normal(500, 100, (32, 40, 32)).astype(np.float32)
        write_nifti(Volume(noise, np.eye(4)), folder / f"case{number:03d}.nii.gz")


if __name__ == "__main__":
    main()
