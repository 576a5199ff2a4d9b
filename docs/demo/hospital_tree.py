"""Build a folder as a hospital might hand it over, from real images that come with packages.

Two DICOM MR series are cut from the MNI152 T1 template (ICBM 2009a, in nilearn's wheel) around the
left and the right hippocampus. They lie among pydicom's own test studies (CT, MR, CR, structured
reports, a truncated file and other oddities), the whole template as NIfTI, and a text file.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt

from nestseg_prep.phantom import Phantom, Plane, set_pixels, write

TEMPLATE = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
HIPPOCAMPUS_MM = (27.0, -22.0, -12.0)  # right one, centre, RAS; the left one mirrors it
CROP_MM = (36, 52, 40)  # left-right, back-front, down-up: as large as the training crops
ODD_FILES = (
    "CT_small",
    "MR_small",
    "MR_truncated",
    "badVR",
    "no_meta",
    "examples_rgb_color",
    "liver_1frame",
    "reportsi",
    "rtdose",
    "rtplan",
    "test-SR",
)
SCALE = 16  # 8-bit template → the 12 bits of a scanner


def build(root: Path) -> tuple[Path, Path]:
    """Fill ``root``; returns the folders of the left and the right hippocampus series."""
    template = _package("nilearn") / TEMPLATE
    pydicom_files = _package("pydicom") / "data" / "test_files"
    shutil.copytree(pydicom_files / "dicomdirtests", root / "archive" / "2001")
    odd = root / "archive" / "unsorted"
    odd.mkdir()
    for name in ODD_FILES:
        shutil.copy(pydicom_files / f"{name}.dcm", odd / name)  # scanners seldom add a suffix
    shutil.copy(template, root / "template_t1.nii.gz")
    (root / "README.txt").write_text("Exported for research.\n")
    (root / "new.dcm").write_text("This is not DICOM.\n")
    left = _write_series(template, root / "study_0001" / "a", "axial", side=-1)
    right = _write_series(template, root / "study_0001" / "b", "coronal", side=1)
    return left, right


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{name} is missing; run `make demo`, which installs it")
    return Path(spec.origin).parent


def _write_series(template: Path, folder: Path, plane: Plane, side: int) -> Path:
    """Write the crop around one hippocampus as a DICOM MR series of slices in ``plane``."""
    across, back_front, down_up = CROP_MM
    columns, rows, slices = {
        "axial": (across, back_front, down_up),
        "coronal": (across, down_up, back_front),
    }[plane]
    centre = np.array([side * HIPPOCAMPUS_MM[0], *HIPPOCAMPUS_MM[1:]])
    first = np.round(centre + np.array([across, back_front, -down_up]) / 2)  # LPS is -x, -y, z
    if plane == "coronal":
        first[2] += down_up  # rows run downwards
    crop = Phantom(
        plane=plane,
        modality="MR",
        columns=columns,
        rows=rows,
        slices=slices,
        between_columns=1.0,
        between_rows=1.0,
        between_slices=1.0,
        origin=(-first[0], -first[1], first[2]),
        name=f"hippocampus {side}",
        study="demo",
    )
    series = crop.datasets()
    for ds, values in zip(series, _sampled(template, crop), strict=True):
        set_pixels(ds, values)
    write(series, folder, name="IM{:04d}".format)
    return folder


def _sampled(template: Path, crop: Phantom) -> npt.NDArray[np.int32]:
    """Template values at the voxels of ``crop``: ``(slices, rows, columns)``."""
    image = nib.load(template)  # type: ignore[attr-defined]
    values = np.asarray(image.dataobj).astype(np.int32) * SCALE
    index = np.indices((crop.columns, crop.rows, crop.slices)).reshape(3, -1)
    ras = nib.affines.apply_affine(crop.truth.affine, index.T)
    voxels = np.round(nib.affines.apply_affine(np.linalg.inv(image.affine), ras)).astype(int)
    cut = values[tuple(voxels.T)].reshape(crop.columns, crop.rows, crop.slices)
    return cut[:, ::-1].T  # the truth counts rows upwards, an image downwards
