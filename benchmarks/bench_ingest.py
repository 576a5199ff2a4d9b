"""CPU time and memory of the ingest: 300 CT slices of 512² against highdicom; 3,000 headers.

Each measurement runs in a process of its own, A B A B; imports are not counted in the time, but
in the memory. Prints a Markdown table and writes ``results/<date>-ingest.json``.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from nestseg_prep.phantom import Phantom, set_pixels, write

ROUNDS = 3
SLICES = 300
HEADERS = 3000


def make_ct(folder: Path) -> None:
    """A CT series with unsorted names and noise for pixels."""
    series = Phantom(slices=SLICES, between_slices=1.25).datasets()
    rng = np.random.default_rng(0)
    names = rng.permutation(SLICES)
    for ds in series:
        ds.Rows = ds.Columns = 512
        set_pixels(ds, rng.integers(0, 4096, (512, 512)))
    write(series, folder, name=lambda number: f"{names[number]:05d}")


def make_headers(folder: Path) -> None:
    """Ten small series with the many private elements that scanners write."""
    for number in range(10):
        series = Phantom(name=f"{number}", slices=HEADERS // 10).datasets()
        for ds in series:
            block = ds.private_block(0x0029, "BENCHMARK", create=True)
            for element in range(80):
                block.add_new(element, "LO", "a text of a scanner")
        write(series, folder / f"{number}")


def ours(folder: Path) -> None:
    """Scan the folder, judge the geometry, decode."""
    from nestseg_prep.dicom.scan import scan
    from nestseg_prep.reading import read_volume

    (ref,) = scan(folder).series
    assert read_volume(ref).shape == (512, 512, SLICES)


def highdicom_series(folder: Path) -> None:
    """Highdicom's own reader of a series, with values as they are stored."""
    import highdicom
    import pydicom

    datasets = [pydicom.dcmread(path) for path in folder.iterdir()]
    volume = highdicom.get_volume_from_series(
        datasets, dtype=np.float32, apply_presentation_lut=False
    )
    assert sorted(volume.spatial_shape) == [SLICES, 512, 512]


def headers(folder: Path) -> None:
    """Our scan."""
    from nestseg_prep.dicom.scan import scan

    assert len(scan(folder).accepted) == 10


def headers_pydicom(folder: Path) -> None:
    """Pydicom alone, every element but the pixels, none looked at."""
    import pydicom

    for path in folder.rglob("*.dcm"):
        pydicom.dcmread(path, stop_before_pixels=True)


WAYS: dict[str, Callable[[Path], None]] = {
    way.__name__: way for way in (ours, highdicom_series, headers, headers_pydicom)
}


def measure(way: str, folder: Path) -> dict[str, float]:
    """One call in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", __file__, way, str(folder)]
    output = subprocess.run(command, env=environment, check=True, capture_output=True).stdout
    return dict(json.loads(output))


def child(way: str, folder: Path) -> None:
    """Measure in this process."""
    import nestseg_prep.dicom.scan
    import nestseg_prep.reading  # noqa: F401  like those above: no part of the work

    start = time.process_time()
    WAYS[way](folder)
    seconds = time.process_time() - start
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"cpu_s": seconds, "peak_gb": gigabytes}))


def compared(first: str, second: str, folder: Path) -> dict[str, Any]:
    """Rounds of both, and the medians of their ratios."""
    rounds = [{way: measure(way, folder) for way in (first, second)} for _ in range(ROUNDS)]
    return {
        "rounds": rounds,
        "ratio": {
            key: median(one[first][key] / one[second][key] for one in rounds)
            for key in ("cpu_s", "peak_gb")
        },
        "median": {
            way: {key: median(one[way][key] for one in rounds) for key in ("cpu_s", "peak_gb")}
            for way in (first, second)
        },
    }


def main() -> None:
    """Measure, print, write."""
    with tempfile.TemporaryDirectory() as name:
        make_ct(Path(name) / "ct")
        reading = compared("ours", "highdicom_series", Path(name) / "ct")
        make_headers(Path(name) / "headers")
        scanning = compared("headers", "headers_pydicom", Path(name) / "headers")
    print("| way | CPU s | peak GB |\n|---|---|---|")
    for result in (reading, scanning):
        for way, figures in result["median"].items():
            print(f"| {way} | {figures['cpu_s']:.2f} | {figures['peak_gb']:.2f} |")
    now = datetime.now(UTC)
    record = {
        "command": "python benchmarks/bench_ingest.py",
        "date": now.isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "reading_300x512x512": reading,
        "scanning_3000_headers": scanning,
    }
    target = Path(__file__).parent / "results" / f"{now:%Y-%m-%d}-ingest.json"
    target.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        child(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
