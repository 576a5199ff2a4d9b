"""What it costs to begin: ``nestseg --help``, and the way to the first tile; CPU seconds."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from benchmarks.peers import figures, inputs, measure
from benchmarks.peers.bundles import write
from benchmarks.peers.rows import Row
from benchmarks.peers.sizes import Size
from benchmarks.peers.ways import QUARTER

LIMITS_S = {"nestseg --help": 0.3, "first tile": 5.0}


def run(folder: Path, size: Size) -> list[Row]:
    """One row for each, with the CPU seconds of a process of its own.

    Args:
        folder: with the inputs.
        size: of the comparison.
    """
    bundle = write(folder, size.patch, QUARTER)
    image = folder / "nifti" / f"{inputs.case(0)}{inputs.ENDS['nifti']}"
    measure.python("start_section", bundle, image)  # fills what caches there are
    found: list[Row] = [
        {"name": name, "limit_s": limit, "runs": []} for name, limit in LIMITS_S.items()
    ]
    for _ in range(size.rounds):
        helped = measure.run([sys.executable, "-m", "nestseg.cli", "--help"])
        tiled = measure.python("start_section", bundle, image)
        for row, done in zip(found, (helped, tiled), strict=True):
            if done.code:
                raise SystemExit(f"{row['name']}: {done.error}")
            row["runs"].append({"cpu_s": done.said.get("first_tile_cpu_s", done.cpu_s)})
    for row in found:
        row["median"] = figures.medians(row["runs"])
    return found


def first_tile(bundle_folder: Path, image: Path) -> float:
    """CPU seconds of this process until a volume of one tile has its labels, imports and all."""
    from benchmarks.peers.forward import middle
    from nestseg.bundle import loaded, maps
    from nestseg_prep.nifti import read_nifti

    compute, found = maps.compute, []

    def noted(*arguments: object, **more: object) -> maps.Maps:
        result = compute(*arguments, **more)  # type: ignore[arg-type]
        found.append(time.process_time())
        return result

    maps.compute = noted
    bundle = loaded.load(bundle_folder)
    bundle.examine(middle(read_nifti(image), bundle._inferer.roi_size))
    return found[0]


if __name__ == "__main__":
    print(json.dumps({"first_tile_cpu_s": first_tile(*map(Path, sys.argv[1:]))}))
