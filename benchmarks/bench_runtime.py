"""One tile of a 3D U-Net and of a 2D UNet++ by every library that is installed, taking turns.

Prints for each way the median time, how many times faster it is than the plain network in float32,
its arithmetic per second, what part that is of the fastest matrix product that this machine
computes in the same numbers, and how far its logits are off.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nestseg.networks import GridUNet
from nestseg.runtime import machine
from nestseg.runtime.building import Way, build
from nestseg.runtime.contract import Heads, Task, one_line
from nestseg.runtime.proof import error, noise

RUNTIMES = ("torch", "compile", "openvino", "onnxruntime", "tensorrt")
PLAIN = Way("plain", "fp32")


def matrix_peaks(device: torch.device, size: int, seconds: float = 1.0) -> dict[str, float]:
    """Operations per second of the fastest square matrix product, by precision."""

    def best(product: Callable[[], Any]) -> float:
        product()
        times, end = [], time.perf_counter() + seconds
        while time.perf_counter() < end or len(times) < 3:
            start = time.perf_counter()
            product()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - start)
        return 2 * size**3 / min(times)

    a = torch.randn(size, size, device=device)
    half = a.bfloat16()
    eight = (a * 40).clamp(-127, 127).to(torch.int8)
    products = {
        "fp32": lambda: a @ a,
        "bf16": lambda: half @ half,
        "int8": lambda: torch._int_mm(eight, eight),
    }
    peaks = {}
    for name, product in products.items():
        try:
            peaks[name] = best(product)
        except RuntimeError as failure:
            print(f"no matrix product in {name}: {one_line(failure)}")
    return peaks


def networks(features_3d: list[int], features_2d: list[int]) -> dict[str, nn.Module]:
    """A 3D U-Net and a 2D UNet++ with four heads, with batch norms; weights do not matter here."""
    torch.manual_seed(0)
    unet = GridUNet(3, 1, 14, features_3d, "unet", norm="batch")
    plus = GridUNet(2, 1, 2, features_2d, "unet++", norm="batch")
    return {"3D U-Net": unet.eval(), "2D UNet++, all heads": plus.eval()}


def calibrated(task: Task, folder: Path) -> Path | None:
    """A model in int8, its ranges those of noise: for its speed alone."""
    from nestseg.runtime.backends import int8

    try:
        int8.calibrate(task.network, [noise(task, seed).numpy() for seed in range(4)], folder)
    except ValueError as failure:
        print(f"no int8: {failure}")
        return None
    return folder


def measure(task: Task, ways: list[Way], rounds: int, peaks: dict[str, float]) -> dict[str, Any]:
    """Time every way of one network on one tile, A B A B."""
    plain = Heads(task.network, every=task.every_head)
    tile = noise(task, seed=7)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        expected = plain.answers(tile)
    flops = counter.get_total_flops()
    runs: dict[Way, Callable[[Tensor], list[Tensor]]] = {PLAIN: plain.answers}
    failed, build_s = {}, {}
    for way in ways:
        start = time.perf_counter()
        try:
            runs[way] = build(way, replace(task, precision=way.precision), str(way)).run
        except Exception as failure:  # noqa: BLE001  what is not there is listed
            failed[str(way)] = one_line(failure)
        build_s[way] = time.perf_counter() - start
    times: dict[Way, list[float]] = {way: [] for way in runs}
    off = {}
    for number in range(rounds + 1):  # the first to warm up
        for way, run in runs.items():
            start = time.perf_counter()
            with torch.no_grad():
                found = run(tile)
            if task.device.type == "cuda":
                torch.cuda.synchronize(task.device)
            if number:
                times[way].append(time.perf_counter() - start)
            off[way] = max(error(a, b) for a, b in zip(found, expected, strict=True))
    rows = {}
    for way, seconds in times.items():
        ratios = [mine / own for mine, own in zip(times[PLAIN], seconds, strict=True)]
        speed = flops / median(seconds)
        peak = peaks.get(way.precision)
        rows[str(way)] = {
            "median_s": median(seconds),
            "times_faster": median(ratios),
            "gflops": speed / 1e9,
            "of_peak": speed / peak if peak else None,
            "rms_error": off[way],
            "build_s": build_s.get(way),
        }
    return {"tile": task.shape, "gflop": flops / 1e9, "ways": rows, "failed": failed}


def show(name: str, found: dict[str, Any]) -> None:
    """Print a table."""
    print(f"\n{name}, tile {found['tile']}, {found['gflop']:.1f} GFLOP\n")
    print("| way | median s | times faster | GFLOP/s | of the matrix peak | error | build s |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for way, row in found["ways"].items():
        part = "" if row["of_peak"] is None else f"{row['of_peak']:.0%}"
        built = "" if row["build_s"] is None else f"{row['build_s']:.1f}"
        print(
            f"| {way} | {row['median_s']:.3f} | {row['times_faster']:.2f} | {row['gflops']:.0f} "
            f"| {part} | {row['rms_error']:.1e} | {built} |"
        )
    for way, reason in found["failed"].items():
        print(f"- {way}: {reason}")


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side-3d", type=int, default=96, help="voxels of the 3D tile's sides")
    parser.add_argument("--side-2d", type=int, default=512, help="pixels of the 2D tile's sides")
    parser.add_argument("--features-3d", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--features-2d", type=int, nargs="+", default=[32, 64, 128, 256, 512])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--matrix", type=int, default=2048, help="side of the matrices")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--runtimes", nargs="+", default=RUNTIMES)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16", "int8"])
    parser.add_argument("--out", type=Path, help="file of the figures; default: benchmarks/results")
    given = parser.parse_args()
    device = torch.device(given.device)
    peaks = matrix_peaks(device, given.matrix)
    print(", ".join(f"{name} {peak / 1e9:.0f} Gop/s" for name, peak in peaks.items()))
    sides = {3: given.side_3d, 2: given.side_2d}
    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["NESTSEG_CACHE"] = scratch  # everything is built anew
        for number, (name, network) in enumerate(
            networks(given.features_3d, given.features_2d).items()
        ):
            dims = len(network.geometry.axes)
            shape = (1, 1, *[sides[dims]] * dims)
            every, threads = dims == 2, torch.get_num_threads()
            task = Task(network.to(device), shape, every, "fp32", device, threads)
            floats = [p for p in given.precisions if p != "int8"]
            ways = [Way(runtime, p) for p in floats for runtime in given.runtimes]
            if "int8" in given.precisions and device.type == "cpu":
                folder = Path(scratch) / f"int8-{number}"
                folder.mkdir()
                task = replace(task, int8=calibrated(task, folder))
                ways += [Way("openvino", "int8")] if task.int8 else []
            results[name] = measure(task, ways, given.rounds, peaks)
            show(name, results[name])
    report = {
        "command": "python benchmarks/bench_runtime.py",
        "arguments": {key: value for key, value in vars(given).items() if key != "out"},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "matrix_peak_gops": {name: peak / 1e9 for name, peak in peaks.items()},
        "networks": results,
    }
    day = datetime.now(UTC).date()
    out = given.out or Path(__file__).parent / "results" / f"{day}-runtime.json"
    out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\n{out}")


if __name__ == "__main__":
    main()
