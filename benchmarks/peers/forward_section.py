"""Forward passes and stitching of one volume, every way in its turn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.peers import environment, inputs, measure, rows
from benchmarks.peers.bundles import write
from benchmarks.peers.sizes import Size
from benchmarks.peers.ways import Way


def run(folder: Path, size: Size, ways: tuple[Way, ...]) -> list[dict[str, Any]]:
    """One row for each way.

    Args:
        folder: with the inputs of :mod:`benchmarks.peers.inputs`; takes what is made on the way.
        size: of the comparison.
        ways: to run.
    """
    masks = folder / "forward"
    masks.mkdir(exist_ok=True)
    found = rows.interleaved(ways, size.rounds, lambda way: _run(folder, masks, size, way))
    truth = folder / "truth.npy"
    rows.agree(
        found,
        lambda row, _: rows.array(masks / f"{row['slug']}.npy"),
        (lambda _: rows.array(truth)) if truth.is_file() else None,
    )
    return found


def _run(folder: Path, masks: Path, size: Size, way: Way) -> measure.Run:
    out = masks / f"{way.slug}.npy"
    patch = ["--patch", json.dumps(size.patch), "--overlap", str(way.tiling.overlap)]
    if way.program == "nnunet":
        python = environment.make()
        image = folder / "image.npy"
        return measure.python("nnunet", "forward", image, out, *patch, interpreter=python)
    if way.program == "monai":
        return measure.python("forward", "monai", folder / "image.npy", out, *patch)
    bundle = write(folder, size.patch, way.tiling)
    image = folder / "nifti" / f"{inputs.case(0)}{inputs.ENDS['nifti']}"
    options = ["--bundle", bundle, "--options", json.dumps(dict(way.options))]
    return measure.python("forward", "nestseg", image, out, *options)
