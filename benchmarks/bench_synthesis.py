"""How many training images `hippocampus_locator` synthesises in a second, on one thread.

    python benchmarks/bench_synthesis.py [LABEL_MAP]

Its own transforms, from the map in memory to the normalised patch, on a label map of a head or, by
default, on random structures of that size. Prints CPU milliseconds a patch, for each part.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose

from nestseg.bundle import locate

SHAPE = (160, 210, 190)
ROUNDS = 20


def head(parser: ConfigParser) -> dict[str, Any]:
    """A map as the recipe keeps it in memory."""
    if len(sys.argv) > 1:
        loaded: dict[str, Any] = Compose(parser.get_parsed_content("load_map"))(
            {"label": sys.argv[1]}
        )
        return loaded
    values = [value for structure in parser["structures"] for value in structure]
    coarse = np.random.default_rng(0).choice(values, [n // 10 for n in SHAPE])
    fine = coarse.repeat(10, 0).repeat(10, 1).repeat(10, 2)
    return {"label": torch.from_numpy(fine.astype(np.int16))[None]}


def milliseconds(step: Callable[[dict[str, Any]], Any], data: dict[str, Any]) -> float:
    """Mean CPU time of a call."""
    step(dict(data))
    start = time.process_time()
    for _ in range(ROUNDS):
        step(dict(data))
    return (time.process_time() - start) / ROUNDS * 1000


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    parser = ConfigParser()
    parser.read_config(locate.find("hippocampus_locator") / "configs" / "train.json")
    label_map = head(parser)
    synthesise, finish = (
        Compose(parser.get_parsed_content(part)) for part in ("synthesise", "intensity")
    )
    drawn = synthesise(dict(label_map))
    first, second = milliseconds(synthesise, label_map), milliseconds(finish, drawn)
    size = "×".join(map(str, drawn["image"].shape[1:]))
    print(f"{size} voxels: synthesis {first:.0f} ms, normalisation {second:.0f} ms of CPU,")
    print(f"{1000 / (first + second):.0f} images a second on one thread")


if __name__ == "__main__":
    main()
