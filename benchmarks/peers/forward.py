"""``python -m benchmarks.peers.forward``: one volume through the network, tile by tile.

A child of the comparison: forward passes, stitching and argmax are timed (``forward_s``), and one
tile (``tile_s``); nothing else. Ours is
timed inside ``Bundle.predict``, with whatever that does to compute faster; MONAI's sliding
window gets the same voxels.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.measure import UNAVAILABLE

Figures = dict[str, float]


def nestseg(bundle_folder: Path, image: Path, options: dict[str, str]) -> tuple[Any, Figures]:
    """Labels on the network's grid, and seconds."""
    import torch

    from benchmarks.peers import network
    from nestseg.bundle import maps
    from nestseg.bundle.bundle import Bundle
    from nestseg.bundle.in_process import InProcess, load_model
    from nestseg.bundle.options import SegmentOptions
    from nestseg.inferers import Answers
    from nestseg_prep.errors import InputError
    from nestseg_prep.nifti import read_nifti

    try:
        chosen = SegmentOptions(**options)  # type: ignore[arg-type]
        model = load_model(bundle_folder)
        bundle = Bundle(InProcess((model,)), chosen)
    except (TypeError, InputError) as error:
        print(str(error).splitlines()[0], file=sys.stderr)
        raise SystemExit(UNAVAILABLE) from None
    compute, found = maps.compute, {}

    def timed(*arguments: Any, **more: Any) -> Any:
        start = time.perf_counter()
        result = compute(*arguments, **more)
        found["s"], found["labels"] = time.perf_counter() - start, result.labels
        return result

    volume = read_nifti(image)
    try:
        maps.compute = timed
        bundle.predict(volume)  # compiles for its windows, and warms up
        bundle.predict(volume)
        with torch.no_grad():
            tile = torch.randn(1, 1, *model.inferer.roi_size)
            answers = Answers(model.answering(chosen))
            for _ in range(3):  # from the third tile on, it is computed by what is fastest
                answers(tile)
            said = {"tile_s": network.one_tile(answers, tile, tile.shape[2:])}
    except InputError as error:
        print(str(error).splitlines()[0], file=sys.stderr)
        raise SystemExit(UNAVAILABLE) from None
    finally:
        maps.compute = compute
    return found["labels"], said | {"forward_s": found["s"]}


def monai(image: Path, patch: tuple[int, ...], overlap: float) -> tuple[Any, Figures]:
    """The same by ``SlidingWindowInferer`` with Gaussian weights."""
    import torch
    from monai.inferers import SlidingWindowInferer

    from benchmarks.peers import network

    net = network.build()
    tensor = torch.from_numpy(np.load(image))[None, None]
    infer = SlidingWindowInferer(patch, sw_batch_size=1, overlap=overlap, mode="gaussian")
    with torch.inference_mode():
        said = {"tile_s": network.one_tile(net, tensor, patch)}
        start = time.perf_counter()
        labels = infer(tensor, net)[0].argmax(dim=0)
        said["forward_s"] = time.perf_counter() - start
    return labels.numpy().astype(np.uint8), said


def main() -> None:
    """Run one way and write its labels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", choices=["nestseg", "monai"])
    parser.add_argument("image", type=Path, help=".nii.gz for nestseg, .npy for monai")
    parser.add_argument("out", type=Path)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--options", type=json.loads, default={})
    parser.add_argument("--patch", type=json.loads)
    parser.add_argument("--overlap", type=float)
    given = parser.parse_args()
    if given.program == "nestseg":
        labels, said = nestseg(given.bundle, given.image, given.options)
    else:
        labels, said = monai(given.image, tuple(given.patch), given.overlap)
    np.save(given.out, labels)
    print(json.dumps(said))


if __name__ == "__main__":
    main()
