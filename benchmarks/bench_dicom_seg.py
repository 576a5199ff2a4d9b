"""CPU time and memory to write SEG and SR for 512 × 512 × 300 voxels with five segments.

From the mask in memory to both files verified on disk. Each encoding runs in a process of its own,
so that its peak memory is its own. Prints a Markdown table.
"""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nestseg.outputs.dicom.algorithm import Algorithm
from nestseg.outputs.dicom.encoding import Encoding
from nestseg.outputs.dicom.results import write_results
from nestseg.outputs.dicom.seg import probability_seg
from nestseg.outputs.dicom.source import read_source
from nestseg_prep.dicom.references import SeriesRef
from nestseg_prep.dicom.scan import scan
from nestseg_prep.phantom import Phantom, set_pixels, write
from nestseg_prep.reading import read_volume
from nestseg_prep.volume import Volume

SHAPE = (512, 512, 300)
ALGORITHM = Algorithm("benchmark", "1", "0" * 64)
# Label: centre and half axes in voxels.
ORGANS = {
    "liver": ((160, 250, 120), (110, 110, 88)),
    "spleen": ((380, 250, 130), (60, 60, 48)),
    "left kidney": ((340, 330, 90), (45, 45, 36)),
    "right kidney": ((180, 330, 90), (45, 45, 36)),
    "left lung": ((360, 220, 220), (100, 100, 80)),
}
NAMES = dict(enumerate(ORGANS, start=1))


def make(folder: Path) -> None:
    """Write the series."""
    columns, rows, slices = SHAPE
    series = Phantom(slices=slices, between_slices=1.0).datasets()
    empty = np.zeros((rows, columns), np.uint16)
    for ds in series:
        ds.Rows, ds.Columns = rows, columns
        set_pixels(ds, empty)
    write(series, folder)


def organs() -> npt.NDArray[np.uint8]:
    """The label map, ``(i, j, k)``."""
    labels = np.zeros(SHAPE, np.uint8)
    grid = np.ogrid[tuple(slice(size) for size in SHAPE)]
    for label, (centre, axes) in enumerate(ORGANS.values(), start=1):
        parts = (((g - c) / a) ** 2 for g, c, a in zip(grid, centre, axes, strict=True))
        labels[sum(parts) < 1] = label
    return labels


def fractional(labels: npt.NDArray[np.uint8], ref: SeriesRef, out: Path) -> Path:
    """Write probabilities; there is no command for them yet."""
    source = read_source(ref)
    stored = np.ascontiguousarray(labels[:, ::-1].T)  # a clean series: slices as they are stored
    probabilities = np.stack([np.uint8(200) * (stored == label) for label in NAMES])
    path = out / "fractional.dcm"
    probability_seg(probabilities, source, NAMES, ALGORITHM).save_as(path)
    return path


def measure(kind: str, folder: Path, out: Path) -> None:
    """Write one encoding, and print its row."""
    warnings.simplefilter("ignore")
    (ref,) = scan(folder).accepted
    labels = organs()
    mask = Volume(labels, read_volume(ref).affine)
    start = time.process_time()
    if kind == "fractional":
        path = fractional(labels, ref, out)
    else:
        volumes = dict.fromkeys(ORGANS, 1.0)
        encoding = Encoding(kind)
        path = write_results([mask], ref, volumes, NAMES, ALGORITHM, out / kind, encoding).seg
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    size = path.stat().st_size / 1e6
    print(f"| {kind} | {seconds:.1f} | {peak:.2f} | {size:.1f} |", flush=True)


def main() -> None:
    """Measure every encoding."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder / "in")
        print("| encoding | CPU s | peak memory GB | SEG MB |\n|---|---:|---:|---:|")
        context = multiprocessing.get_context("spawn")
        for kind in ("binary", "labelmap", "fractional"):
            process = context.Process(target=measure, args=(kind, folder / "in", folder))
            process.start()
            process.join()


if __name__ == "__main__":
    main()
