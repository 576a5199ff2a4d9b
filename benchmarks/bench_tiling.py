"""Stitching against MONAI's sliding window: time around the network, and how often it is called.

The same network, the same windows and overlap; then the same with the background declared, and for
a valid network the tile of a memory budget against a fixed one. The ways take turns (A B A B), and
the medians of the CPU time are compared. ``--network none`` puts a network that costs nothing in
the place of the real one, so that what is left is the stitching and the argmax.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor, nn

from nestseg.bundle import maps
from nestseg.inferers import Answers, OverlapTileInferer
from nestseg.networks import GridUNet
from nestseg_prep.geometry import Geometry

CLASSES = 6
AIR = -2.0
SEED = 7


class Free(nn.Module):
    """A network whose answer is there already: what remains is the tiling."""

    def __init__(self) -> None:
        super().__init__()
        self.geometry = Geometry.same(3, 8)
        self.answers: dict[tuple[int, ...], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        if tuple(x.shape) not in self.answers:
            shape = (len(x), CLASSES, *x.shape[2:])
            self.answers[tuple(x.shape)] = torch.randn(shape)
        return self.answers[tuple(x.shape)]


class Counted(nn.Module):
    """A network that counts the tiles it is given."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.network, self.geometry, self.tiles = inner, inner.geometry, 0

    def forward(self, x: Tensor) -> Tensor:
        self.tiles += len(x)
        out: Tensor = self.network(x)
        return out


def trunk(shape: tuple[int, int, int]) -> Tensor:
    """``(1, 1, *shape)``: noise in an elliptic cylinder, air around it, in network units."""
    torch.manual_seed(SEED)
    x = torch.linspace(-1, 1, shape[0])[:, None, None]
    y = torch.linspace(-1, 1, shape[1])[None, :, None]
    inside = ((x / 0.75) ** 2 + (y / 0.5) ** 2 < 1).expand(shape)
    return torch.where(inside, torch.randn(shape) * 0.3, AIR - torch.rand(shape) * 0.1)[None, None]


def ways(
    net: Counted, image: Tensor, roi: tuple[int, ...], overlap: float
) -> dict[str, Callable[[], object]]:
    """Name → labels of the image, each in its own way."""
    monai = SlidingWindowInferer(roi, 1, overlap, mode="gaussian", progress=False)

    def ours(inferer: OverlapTileInferer) -> Callable[[], object]:
        return lambda: maps.compute(image[0], Answers(net), inferer, keep_probabilities=False)

    return {
        "MONAI SlidingWindowInferer + argmax": lambda: monai(image, net)[0].argmax(dim=0),
        "ours, the same windows": ours(OverlapTileInferer(roi, overlap)),
        "ours, overlap 0.25": ours(OverlapTileInferer(roi, 0.25)),
        "ours, overlap 0.25, background declared": ours(
            OverlapTileInferer(roi, 0.25, background_at_most=AIR)
        ),
    }


def valid_ways(net: Counted, image: Tensor, memory_mb: float) -> dict[str, Callable[[], object]]:
    """Likewise for a valid network in 2D."""
    fixed, chosen = (OverlapTileInferer((572, 572), memory_mb=mb) for mb in (None, memory_mb))
    return {
        "valid, tiles of 572": lambda: fixed(image, net),
        f"valid, tile of {memory_mb:g} MB": lambda: chosen(image, net),
    }


def measure(
    runs: dict[str, Callable[[], object]], net: Counted, rounds: int
) -> list[dict[str, object]]:
    """Each way in turn, ``rounds`` times after one to warm up, against the first."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    tiles = {}
    with torch.no_grad():
        for turn in range(rounds + 1):
            for name, run in runs.items():
                net.tiles, start = 0, time.process_time()
                run()
                tiles[name] = net.tiles
                if turn:
                    seconds[name].append(time.process_time() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    first = next(iter(medians.values()))
    return [
        {"way": name, "tiles": tiles[name], "cpu_s": s, "ratio": first / s}
        for name, s in medians.items()
    ]


def main() -> None:
    """Print the table, or JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="160,160,240", help="voxels of the 3D image")
    parser.add_argument("--roi", default="96,96,96")
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--network", choices=("none", "unetpp"), default="none")
    parser.add_argument("--side", type=int, default=512, help="pixels of the 2D image; 0: none")
    parser.add_argument("--features", default="64,128,256,512,1024", help="of the valid network")
    parser.add_argument("--memory-mb", type=float, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.manual_seed(SEED)
    image = trunk(tuple(map(int, given.shape.split(","))))
    network: nn.Module = Free()
    if given.network == "unetpp":
        network = GridUNet(3, 1, CLASSES, (16, 32, 64, 128), "unet++", norm="instance").eval()
    net = Counted(network)
    roi = tuple(map(int, given.roi.split(",")))
    rows = measure(ways(net, image, roi, given.overlap), net, given.rounds)
    if given.side:
        features = tuple(map(int, given.features.split(",")))
        valid = Counted(GridUNet(2, 1, 2, features, padding="valid").eval())
        picture = torch.randn(1, 1, given.side, given.side)
        rows += measure(valid_ways(valid, picture, given.memory_mb), valid, given.rounds)
    if given.json:
        print("\n".join(map(json.dumps, rows)))
        return
    print("| way | tiles | CPU s | times faster |\n|---|---:|---:|---:|")
    for row in rows:
        print(f"| {row['way']} | {row['tiles']} | {row['cpu_s']:.2f} | {row['ratio']:.2f} |")


if __name__ == "__main__":
    main()
