"""CPU time to read one uncompressed CT series of 200 slices of 512², against other readers.

Ours verifies what the others assume (one series, one grid, no gap, rescale per slice); the ratio
says what that costs. Prints a Markdown table.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import SimpleITK as sitk  # noqa: N813
from monai.data import PydicomReader

from nestseg_prep.dicom.scan import scan
from nestseg_prep.phantom import Phantom, set_pixels, write
from nestseg_prep.reading import read_volume

ROUNDS = 5
SERIES = Phantom(columns=512, rows=512, slices=200, between_slices=1.25)


def make(folder: Path) -> None:
    """Write the series."""
    small = Phantom(slices=SERIES.slices, between_slices=SERIES.between_slices).datasets()
    rng = np.random.default_rng(0)
    for ds in small:
        ds.Rows, ds.Columns = SERIES.rows, SERIES.columns
        set_pixels(ds, rng.integers(0, 4096, (SERIES.rows, SERIES.columns)))
    write(small, folder)


def ours(folder: Path) -> None:
    """Scan the folder, judge the geometry, decode."""
    (ref,) = scan(folder).series
    read_volume(ref)


def simpleitk(folder: Path) -> None:
    """GDCM's series reader, through SimpleITK."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    reader.Execute()


def monai_pydicom(folder: Path) -> None:
    """MONAI's PydicomReader."""
    reader = PydicomReader()
    reader.get_data(reader.read(str(folder)))


def cpu_seconds(job: Callable[[Path], None], folder: Path) -> float:
    """CPU time of one call."""
    start = time.process_time()
    job(folder)
    return time.process_time() - start


def main() -> None:
    """Measure and print."""
    warnings.simplefilter("ignore")
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        ways = (ours, simpleitk, monai_pydicom)
        taken: dict[str, list[float]] = {way.__name__: [] for way in ways}
        for _ in range(ROUNDS):
            for way in ways:
                taken[way.__name__].append(cpu_seconds(way, folder))
    print("| reader | CPU s (median) | ratio to ours |\n|---|---|---|")
    for way_name, seconds in taken.items():
        ratio = median(s / o for s, o in zip(seconds, taken["ours"], strict=True))
        print(f"| {way_name} | {median(seconds):.2f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
