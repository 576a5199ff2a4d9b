"""Memory and time of one large CT, stage by stage: 512 × 512 × 1000 voxels, five structures.

The CT is a phantom with a fixed seed, written as NIfTI into a temporary folder and segmented by
``ct_trunk_unetpp`` in a child process whose data segment is limited, as a worker's is. Prints a
Markdown table. ``--features 4,8,16,32`` puts a narrow network without training in the place of the
bundle's: what it takes to read, resample, stitch and write a volume stays the same. With
``--classes 100`` that network tells as many classes apart.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from nestseg_prep import process_memory
from nestseg_prep.nifti import read_nifti, write_nifti
from nestseg_prep.volume import Volume

SHAPE = (512, 512, 1000)
SPACING = (0.8, 0.8, 1.0)
SEED = 7
BUNDLE = "ct_trunk_unetpp"
LIMIT = 6_000_000_000


def phantom(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Volume:
    """A trunk that swells and narrows: skin, lungs, a spine, organs, and a scanner's noise."""
    rng = np.random.default_rng(SEED)
    noise = rng.normal(0, 12, (shape[0] + 64, shape[1] + 64)).astype(np.float32)
    x, y = np.ogrid[: shape[0], : shape[1]]
    array = np.empty(shape, np.int16, order="F")
    for k in range(shape[2]):
        level = k / shape[2]
        width = 0.36 + 0.04 * np.sin(9 * level)
        plane = np.full(shape[:2], -1000, np.float32)
        for value, (cx, cy), (rx, ry) in (
            (40, (0.5, 0.5), (width, 0.27)),
            (-850, (0.34, 0.47), (0.11 * (level > 0.5), 0.18)),
            (-850, (0.66, 0.47), (0.11 * (level > 0.5), 0.18)),
            (110, (0.36, 0.47), (0.14 * (0.3 < level < 0.5), 0.17)),
            (120, (0.68, 0.55), (0.06 * (0.35 < level < 0.5), 0.09)),
            (700, (0.5, 0.68), (0.05, 0.045)),
        ):
            if rx:
                inside = ((x / shape[0] - cx) / rx) ** 2 + ((y / shape[1] - cy) / ry) ** 2 < 1
                plane[inside] = value
        dx, dy = rng.integers(0, 64, 2)
        plane += noise[dx : dx + shape[0], dy : dy + shape[1]]
        array[:, :, k] = np.rint(plane)
    return Volume(array, np.diag([-spacing[0], -spacing[1], spacing[2], 1.0]))


def segment(path: Path, features: tuple[int, ...], limit: int, classes: int) -> None:
    """What a worker does with a case, in this process; prints the peak after each stage."""
    start = time.perf_counter()
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    def tell(stage: str, **more: object) -> None:
        nonlocal start
        seconds = time.perf_counter() - start
        print(
            json.dumps({"stage": stage, "s": seconds, "peak": process_memory.peak(), **more}),
            flush=True,
        )
        start = time.perf_counter()

    import torch

    from nestseg.bundle import locate
    from nestseg.bundle.bundle import Bundle
    from nestseg.bundle.in_process import InProcess, load_model
    from nestseg.networks import GridUNet
    from nestseg.outputs.preview import draw_preview

    model = load_model(locate.find(BUNDLE))
    if features:
        torch.manual_seed(SEED)
        classes = classes or len(model.info.labels) + 1
        network = GridUNet(3, 1, classes, features, "unet++", norm="instance").eval()
        labels = {k: model.info.labels.get(k, f"structure {k}") for k in range(1, classes)}
        model = replace(model, network=network, info=replace(model.info, labels=labels))
    bundle = Bundle(InProcess((model,)))
    tell("load the bundle")
    image = read_nifti(path)
    tell("read the image", shape=image.shape)
    found = bundle.predict(image)
    tell("segment", uncertainty=found.uncertainty)
    tell("volumes", ml=found.volumes)
    tell("flags", flags=[flag.code for flag in found.flags])
    draw_preview(image, found.mask, found.labels)
    tell("preview")
    write_nifti(found.mask, path.with_name("mask.nii.gz"))
    tell("write the mask")


def run(
    shape: tuple[int, int, int], features: tuple[int, ...], limit: int, classes: int = 0
) -> list[dict[str, object]]:
    """Make the phantom and segment it in a child process; what it told of each stage."""
    with tempfile.TemporaryDirectory(prefix="nestseg-bench-") as folder:
        path = Path(folder) / "ct.nii.gz"
        write_nifti(phantom(shape, SPACING), path)
        words = [sys.executable, __file__, "--child", str(path), "--limit", str(limit)]
        words += ["--features", ",".join(map(str, features)), "--classes", str(classes)]
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"after {done.stdout}\n{done.stderr[-2000:]}")
        return [json.loads(line) for line in done.stdout.splitlines()]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", type=Path)
    parser.add_argument("--features", default="")
    parser.add_argument("--classes", type=int, default=0, help="of the network of --features")
    parser.add_argument("--limit", type=int, default=LIMIT)
    parser.add_argument("--slices", type=int, default=SHAPE[2])
    parser.add_argument("--json", action="store_true", help="what was measured, line by line")
    given = parser.parse_args()
    features = tuple(int(n) for n in given.features.split(",") if n)
    if given.child:
        segment(given.child, features, given.limit, given.classes)
        return
    stages = run((*SHAPE[:2], given.slices), features, given.limit, given.classes)
    if given.json:
        print("\n".join(map(json.dumps, stages)))
        return
    print("| stage | s | peak so far, GB |\n|---|---:|---:|")
    for stage in stages:
        print(f"| {stage['stage']} | {stage['s']:.1f} | {float(str(stage['peak'])) / 1e9:.2f} |")


if __name__ == "__main__":
    main()
