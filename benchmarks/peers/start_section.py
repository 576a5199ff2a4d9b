"""What it costs to begin: ``nestseg --help``, and the way to the first tile; CPU seconds."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.peers import figures, measure
from benchmarks.peers.rows import Row
from nestseg_prep.nifti import write_nifti
from nestseg_prep.volume import Volume

BUNDLE = "hippocampus_unetpp"
TILE = (48, 64, 48)
HELP, FIRST = "nestseg --help", "from the command to the first tile"
LIMITS_S = {HELP: 0.3, FIRST: 5.0}
COMMAND = "import nestseg.cli.segment, nestseg.batch.session, nestseg.cli.progress"


def run(folder: Path, rounds: int) -> list[Row]:
    """One row for each, with the CPU seconds of processes of their own.

    Args:
        folder: takes an image of one tile.
        rounds: of both.
    """
    image = folder / "one_tile.nii.gz"
    noise = np.random.default_rng(0).integers(0, 500, TILE).astype(np.int16)
    write_nifti(Volume(noise, np.eye(4)), image)
    measure.python("start_section", image)  # fills what caches there are
    found: list[Row] = [
        {"name": name, "limit_s": limit, "runs": []} for name, limit in LIMITS_S.items()
    ]
    for _ in range(rounds):
        helped = measure.run([sys.executable, "-m", "nestseg.cli", "--help"])
        # The command and its worker are two processes: what the first one imports counts as well.
        command = measure.run([sys.executable, "-c", COMMAND])
        tiled = measure.python("start_section", image)
        for row, parts in zip(found, ([helped], [command, tiled]), strict=True):
            if any(done.code for done in parts):
                raise SystemExit(f"{row['name']}: {[done.error for done in parts]}")
            seconds = sum(done.said.get("first_tile_cpu_s", done.cpu_s) for done in parts)
            row["runs"].append({"cpu_s": seconds})
    for row in found:
        row["median"] = figures.medians(row["runs"])
    return found


def first_tile(image: Path) -> float:
    """CPU seconds of this process until an image of one tile has its labels, imports and all.

    As a worker of ``nestseg segment`` does it.
    """
    from nestseg.batch import worker
    from nestseg.batch.jobs import Settings
    from nestseg.bundle.locate import find

    settings = Settings(find(BUNDLE))
    worker.start_lean(settings)
    from nestseg.bundle import maps
    from nestseg_prep.nifti import read_nifti

    compute, found = maps.compute, []

    def noted(*arguments: object, **more: object) -> maps.Maps:
        result = compute(*arguments, **more)  # type: ignore[arg-type]
        found.append(time.process_time())
        return result

    maps.compute = noted
    worker.load(settings).predict(read_nifti(image))
    return found[0]


if __name__ == "__main__":
    print(json.dumps({"first_tile_cpu_s": first_tile(Path(sys.argv[1]))}))
