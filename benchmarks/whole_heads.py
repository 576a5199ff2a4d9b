"""Both hippocampi of a whole head, in every orientation: volumes, sides, pieces, CPU time.

    python benchmarks/whole_heads.py HEAD.nii.gz …
    python benchmarks/whole_heads.py --labels brain_t1_oasis

The first writes each head as an axial, a coronal, a sagittal and an oblique DICOM series of 1 mm
(sampled by linear interpolation), segments each by ``hippocampus_whole_head`` from the files on,
and prints a row for each. Without a file it takes the MNI152 T1 template of nilearn's wheel. The
second scores the images of a data set with Neuromorphometrics' numbers: Dice of each whole
hippocampus. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

from nestseg.bundle.bundle import Bundle, load_bundle
from nestseg.outputs.volumetry import volumes_ml
from nestseg_prep.dicom.scan import scan
from nestseg_prep.nifti import read_nifti
from nestseg_prep.phantom import Phantom, set_pixels, write
from nestseg_prep.reading import read_volume
from nestseg_prep.volume import Volume

BUNDLE = "hippocampus_whole_head"
SIDES = {"left": (1, 2), "right": (3, 4)}
TRUTH = {"left": 48, "right": 47}
PLANES = ("axial", "coronal", "sagittal", "oblique")
SIDE_MM = 240


def template() -> Path:
    """The MNI152 T1 template, from nilearn's wheel."""
    spec = importlib.util.find_spec("nilearn")
    if spec is None or spec.origin is None:
        raise SystemExit("give a head, or install nilearn, whose wheel holds the MNI template")
    data = Path(spec.origin).parent / "datasets" / "data"
    return data / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"


def as_series(head: Volume, plane: str, folder: Path) -> Volume:
    """A head as a DICOM series in a plane, read back from its files."""
    size = {"columns": SIDE_MM, "rows": SIDE_MM, "slices": SIDE_MM}
    steps = {"between_columns": 1.0, "between_rows": 1.0, "between_slices": 1.0}
    series = Phantom(plane=plane, modality="MR", name=plane, **size, **steps)  # type: ignore[arg-type]
    middle = head.affine @ [*(n / 2 for n in head.shape), 1]
    place = series.truth.affine
    place[:3, 3] += middle[:3] - (place @ [*(SIDE_MM / 2,) * 3, 1])[:3]
    index = np.linalg.inv(head.affine) @ place
    values = ndimage.affine_transform(
        head.array.astype(np.float32), index[:3, :3], index[:3, 3], (SIDE_MM,) * 3, order=1
    )
    stored = np.rint(values / values.max() * 4000).astype(np.int32)[:, ::-1]  # as Phantom.values
    datasets = series.datasets()
    for k, ds in enumerate(datasets):
        set_pixels(ds, stored[:, :, k].T)
    write(datasets, folder)
    (ref,) = scan(folder).series
    return read_volume(ref)


def row(name: str, bundle: Bundle, image: Volume) -> str:
    """What one image gave."""
    start = time.process_time()
    mask = bundle.predict(image).mask
    seconds = time.process_time() - start
    volumes = volumes_ml(mask, bundle.info.labels)
    cells, places = [], {}
    for side, values in SIDES.items():
        found = np.isin(mask.array, values)
        _, pieces = ndimage.label(found, np.ones((3, 3, 3)))
        ml = sum(volumes[bundle.info.labels[value]] for value in values)
        cells.append(f"{ml:.2f} | {pieces}")
        places[side] = (mask.affine @ [*(np.argwhere(found).mean(0)), 1])[0] if pieces else np.nan
    right = "yes" if places["left"] < places["right"] else "no"
    return f"| {name} | {' | '.join(cells)} | {right} | {seconds:.0f} |"


def dice(bundle: Bundle, image: Path, labels: Path) -> str:
    """Dice of each whole hippocampus of a labelled image."""
    mask, truth = bundle.predict(read_nifti(image)).mask.array, read_nifti(labels).array
    cells = []
    for side, values in SIDES.items():
        found, wanted = np.isin(mask, values), truth == TRUTH[side]
        cells.append(f"{2 * (found & wanted).sum() / (found.sum() + wanted.sum()):.3f}")
    return f"| {image.name} | {' | '.join(cells)} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("heads", type=Path, nargs="*")
    parser.add_argument("--labels", type=Path)
    given = parser.parse_args()
    bundle = load_bundle(BUNDLE)
    if given.labels:
        print("| case | left | right |\n|---|---:|---:|")
        for image in sorted((given.labels / "images").iterdir()):
            print(dice(bundle, image, given.labels / "labels" / image.name), flush=True)
        return
    print("| head | left ml | pieces | right ml | pieces | left lies left | CPU s |")
    print("|---|---:|---:|---:|---:|---|---:|")
    for path in given.heads or [template()]:
        head = read_nifti(path)
        print(row(path.name.split(".")[0], bundle, head), flush=True)
        for plane in PLANES:
            with tempfile.TemporaryDirectory() as folder:
                print(row(plane, bundle, as_series(head, plane, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
