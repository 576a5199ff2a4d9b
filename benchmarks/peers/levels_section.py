"""UNet++ in 2D: pictures per second of each level, from files to masks."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from benchmarks.peers import figures, measure, whole_section
from benchmarks.peers.rows import Row
from nestseg_prep.site_key import VARIABLE

BUNDLE = "nuclei_unetpp"
LEVELS = (1, 2, 3, 4)
SIDE = 512
BLOBS = 60
SEED = 0


def run(folder: Path, pictures: int, rounds: int) -> list[Row]:
    """One row for each level, the deepest last.

    A level runs on one picture and on all of them; the difference is what pictures cost once the
    program has started.

    Args:
        folder: takes pictures and masks.
        pictures: how many; two or more.
        rounds: in which the levels take turns.
    """
    one, all_of_them = (_make(folder / f"pictures{n}", n) for n in (1, pictures))
    found: list[Row] = [{"name": f"L{level}", "level": level, "runs": []} for level in LEVELS]
    for number in range(rounds):
        for row in found:
            start, whole = (_segment(source, row["level"], folder) for source in (one, all_of_them))
            seconds = (whole.wall_s - start.wall_s) / (pictures - 1)
            cpu = (whole.cpu_s - start.cpu_s) / (pictures - 1)
            row["runs"].append(
                {
                    "s_per_picture": seconds,
                    "cpu_s_per_picture": cpu,
                    "pictures_per_s": 1 / seconds,
                    "with_start_pictures_per_s": pictures / whole.wall_s,
                    "peak_gb": whole.peak_rss / 1e9,
                }
            )
            print(f"round {number + 1} of {rounds}: {row['name']}: {1 / seconds:.2f}/s", flush=True)
    for row in found:
        row["median"] = figures.medians(row["runs"])
        row["ratio"] = {f"L{LEVELS[-1]}": figures.ratios(row["runs"], found[-1]["runs"])}
    return found


def picture(seed: int) -> Image.Image:
    """Blurred bright blobs on a dark ground with noise, as cells in fluorescence."""
    rng = np.random.default_rng(seed)
    ground = np.zeros((SIDE, SIDE), np.float32)
    ground[tuple(rng.integers(0, SIDE, (2, BLOBS)))] = 1
    cells = ndimage.gaussian_filter(ground, 9)
    values = 30 + 190 * (cells / cells.max()).clip(0, 0.4) / 0.4 + rng.normal(0, 6, cells.shape)
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def _make(folder: Path, count: int) -> Path:
    if not folder.is_dir():
        folder.mkdir(parents=True)
        for number in range(count):
            picture(SEED + number).save(folder / f"picture{number:03d}.png")
    return folder


def _segment(source: Path, level: int, folder: Path) -> measure.Run:
    out = folder / f"masks{level}"
    shutil.rmtree(out, ignore_errors=True)
    words: list[Any] = ["-m", "nestseg.cli", "segment", source, "--bundle", BUNDLE, "--out", out]
    found = measure.run(
        [sys.executable, *words, "--level", str(level)], {VARIABLE: whole_section.KEY}
    )
    if found.code:
        raise SystemExit(f"{BUNDLE} L{level}: {found.error}")
    return found
