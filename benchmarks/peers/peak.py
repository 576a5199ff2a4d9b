"""``python -m benchmarks.peers.peak``: what this machine multiplies at most, and what a tile takes.

Matrix products of 2048² by oneDNN through torch, the best of some, as GFLOP/s; the network's
arithmetic for one tile as torch counts it, as GFLOP.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.peers import network

SIDE = 2048
REPEATS = 20


def product(kind: torch.dtype) -> float:
    """GFLOP/s of a square matrix product; 0 where torch has none for this type."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn((2, SIDE, SIDE), generator=generator)
    multiply: Any = torch.mm
    if kind is torch.int8:
        a, b, multiply = (30 * a).clamp(-127, 127), (30 * b).clamp(-127, 127), torch._int_mm
    first, second = a.to(kind), b.to(kind)
    seconds = []
    try:
        for _ in range(REPEATS):
            start = time.perf_counter()
            multiply(first, second)
            seconds.append(time.perf_counter() - start)
    except RuntimeError:
        return 0.0
    return 2 * SIDE**3 / min(seconds) / 1e9


def arithmetic(patch: list[int]) -> float:
    """GFLOP of the network for one tile."""
    from nestseg.networks import GridUNet

    with torch.device("meta"):
        net = GridUNet(**network.ARGUMENTS).eval()
        tile = torch.empty(1, 1, *patch)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(tile)
    return counter.get_total_flops() / 1e9


def main() -> None:
    """Print both as JSON."""
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8}
    peaks = {name: product(kind) for name, kind in kinds.items()}
    said = {"gflops": peaks, "tile_gflop": arithmetic(json.loads(sys.argv[1]))}
    print(json.dumps(said))


if __name__ == "__main__":
    main()
