"""What reading, writing and starting cost, against other ways to do the same.

Small volumes, CPU seconds, A B A B in one process: .nii.gz read and label maps written by our
functions and by other libraries; slices of compressed DICOM decoded by one thread and by two (wall
time: where the decoder holds Python's lock a second thread gains nothing); the start of a worker,
in processes of their own. Prints Markdown tables and writes ``results/<date>-io.json``.

    python benchmarks/bench_io.py
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless
from scipy.ndimage import gaussian_filter

from nestseg.bundle import locate
from nestseg_prep.dicom.pixels import stored_values
from nestseg_prep.nifti import read_nifti, write_nifti
from nestseg_prep.phantom import Phantom, set_pixels
from nestseg_prep.volume import Volume

Clock = Callable[[], float]
SHAPE = (256, 256, 64)
SLICES = 12
START = """
import sys
import torch
torch.set_num_threads(1)
from nestseg.bundle import lean_start
from nestseg.bundle.bundle import load_bundle
if sys.argv[1] == "lean":
    lean_start.import_monai()
import numpy as np
from nestseg_prep.volume import Volume
volume = Volume(np.zeros((32, 32, 32), np.float32), np.eye(4))
load_bundle(sys.argv[2], caged=False).predict(volume)
"""


def rows(ways: dict[str, Callable[[], Any]], rounds: int, clock: Clock) -> dict[str, Any]:
    """The median of each way, and how many times longer than the first it takes."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = clock()
            way()
            taken[name].append(clock() - start)
    first = next(iter(taken.values()))
    return {
        name: {
            "s": round(median(seconds), 4),
            "ratio": round(median(s / f for s, f in zip(seconds, first, strict=True)), 2),
        }
        for name, seconds in taken.items()
    }


def nifti(folder: Path, rounds: int) -> dict[str, Any]:
    """A noisy CT read, a label map written."""
    random = np.random.default_rng(0)
    soft = gaussian_filter(random.normal(size=SHAPE), 2) * 3000
    ct = Volume((soft + random.normal(0, 12, SHAPE)).astype(np.int16), np.diag([0.8, 0.8, 2, 1]))
    labels = Volume((soft > 40).astype(np.uint8) + (soft < -40).astype(np.uint8) * 2, ct.affine)
    packed, out = folder / "ct.nii.gz", folder / "labels.nii.gz"
    # As other programs pack: zlib at its usual level.
    write_nifti(ct, folder / "ct.nii")
    packed.write_bytes(gzip.compress((folder / "ct.nii").read_bytes(), 6))
    image = nib.Nifti1Image(labels.array, labels.affine)
    itk = sitk.GetImageFromArray(labels.array)
    read = {
        "ours: checked to the last byte": lambda: read_nifti(packed),
        "nibabel, stored type": lambda: np.asarray(nib.load(packed).dataobj),
        "nibabel, get_fdata": lambda: nib.load(packed).get_fdata(),
        "SimpleITK": lambda: sitk.GetArrayFromImage(sitk.ReadImage(str(packed))),
    }
    write = {
        "ours: synced, read back, compared": lambda: write_nifti(labels, out),
        "nibabel": lambda: nib.save(image, out),
        "SimpleITK": lambda: sitk.WriteImage(itk, str(out), useCompression=True),
    }
    return {
        "read .nii.gz": rows(read, rounds, time.process_time),
        "write labels .nii.gz": rows(write, rounds, time.process_time),
    }


def decode(slices: list[Any], threads: int) -> None:
    """All slices, some at a time."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(stored_values, slices, [0] * len(slices)))


def decoding(rounds: int) -> dict[str, Any]:
    """Compressed slices by one thread and by two."""
    random = np.random.default_rng(0)
    found = {}
    for syntax in (JPEG2000Lossless, JPEGLSLossless, RLELossless):
        slices = Phantom(slices=SLICES).datasets()
        for one in slices:
            one.Rows = one.Columns = 256
            set_pixels(one, random.integers(0, 4096, (256, 256)))
            one.file_meta = FileMetaDataset()
            one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            one.compress(syntax, generate_instance_uid=False)

        ways = {"one thread": partial(decode, slices, 1), "two threads": partial(decode, slices, 2)}
        found[f"decode {syntax.name}"] = rows(ways, rounds, time.perf_counter)
    return found


def starting(rounds: int) -> dict[str, Any]:
    """From a new process to the first mask, lean as a worker starts, and with all of MONAI."""
    bundle = str(locate.find("hippocampus_unetpp"))

    def start(how: str) -> Callable[[], Any]:
        command = [sys.executable, "-W", "ignore", "-c", START, how, bundle]
        paths = os.pathsep.join(path for path in sys.path if path)
        return lambda: subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": paths})

    def clock() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    return {"first mask": rows({"lean": start("lean"), "usual": start("usual")}, rounds, clock)}


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="of the JSON")
    given = parser.parse_args()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    with tempfile.TemporaryDirectory() as name:
        tables = nifti(Path(name), given.rounds)
    tables |= decoding(given.rounds) | starting(max(1, given.rounds // 2))
    for title, table in tables.items():
        print(f"\n| {title} | s | ratio |\n|---|---|---|")
        for way, row in table.items():
            print(f"| {way} | {row['s']} | {row['ratio']} |")
    now = datetime.now(UTC)
    found = {
        "command": " ".join(["python", "benchmarks/bench_io.py", *sys.argv[1:]]),
        "date": now.isoformat(timespec="seconds"),
        "load": os.getloadavg(),
        "tables": tables,
    }
    target = Path(__file__).parent / "results" / f"{now:%Y-%m-%d}-io.json"
    (given.out or target).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
