"""The front door for Python: what ``import nestseg`` offers, and every kind of image it takes."""

from __future__ import annotations

import doctest
import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from monai.data.meta_tensor import MetaTensor

import nestseg
import nestseg_prep
from nestseg_prep import affine as affines
from nestseg_prep import errors
from nestseg_prep.images import as_volume, from_itk, to_itk
from nestseg_prep.nifti import write_nifti
from nestseg_prep.phantom import Phantom, write
from nestseg_prep.volume import Volume

ROOT = Path(__file__).parents[2]
BUNDLE = "hippocampus_unetpp"
SHAPE = (9, 8, 7)


def oblique() -> Volume:
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn * [0.8, 1.2, 2.0]
    affine[:3, 3] = [10, -20, 30]
    return Volume(np.random.default_rng(1).normal(size=SHAPE).astype(np.float32), affine)


def meta_tensor(volume: Volume, *, lps: bool) -> MetaTensor:
    affine = affines.swap_lps_ras(volume.affine) if lps else volume.affine
    meta = {"space": "LPS" if lps else "RAS"}
    return MetaTensor(torch.from_numpy(volume.array)[None], affine=affine, meta=meta)


def test_the_pages_examples_are_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = doctest.testfile(str(ROOT / "docs" / "python.md"), module_relative=False)
    assert found.attempted >= 25
    assert not found.failed


def test_importing_nestseg_imports_nothing_but_the_names_that_are_asked_for() -> None:
    code = (
        "import sys; before = set(sys.modules); import nestseg; assert nestseg.__version__\n"
        "heavy = {'torch', 'monai', 'numpy', 'scipy', 'pydicom', 'nibabel', 'nestseg_prep'}\n"
        "roots = lambda: {n.partition('.')[0] for n in set(sys.modules) - before}\n"
        "assert not heavy & roots(), roots()\n"
        "assert set(nestseg.__all__) == set(dir(nestseg))\n"
        "[getattr(nestseg, name) for name in nestseg.__all__]\n"
        "assert not {'torch', 'monai'} & roots(), roots()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="module 'nestseg' has no attribute 'sgement'"):
        nestseg.sgement  # noqa: B018


USER = """
import nestseg
from nestseg import Bundle, InputError, Options, Prediction, Volume

def volumes(image: str, bundle: Bundle) -> dict[str, float]:
    prediction: Prediction = nestseg.segment(image, bundle, tta="mirror")
    mask: Volume = prediction.mask
    print(mask.spacing, [flag.sentence for flag in prediction.flags])
    return prediction.volumes

loaded = nestseg.load_bundle("hippocampus_unetpp", Options(save_uncertainty=True))
try:
    print(volumes("a.nii.gz", loaded), loaded.info.labels[1].upper())
    print([row.name for row in nestseg.segment_folder("in", "hippocampus_unetpp", "out").rows])
except InputError as error:
    print(error.args)
"""


@pytest.mark.slow
def test_a_users_program_passes_mypy_strict(tmp_path: Path) -> None:
    program = tmp_path / "program.py"

    def checked(text: str) -> str:
        program.write_text(text)
        settings = [f"--config-file={ROOT / 'pyproject.toml'}", "--follow-imports=silent"]
        words = [sys.executable, "-m", "mypy", "--strict", *settings, str(program)]
        done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)
        return done.stdout + done.stderr

    assert "Success: no issues found in 1 source file" in checked(USER)
    assert 'no attribute "masc"' in checked(USER.replace("prediction.mask", "prediction.masc"))


@pytest.mark.parametrize(
    "given",
    [
        lambda volume: volume,
        lambda volume: (volume.array, volume.affine.tolist()),
        lambda volume: nib.Nifti1Image(volume.array, volume.affine),
        lambda volume: nib.Nifti1Image(volume.array[..., None], volume.affine),
        lambda volume: nib.MGHImage(volume.array, volume.affine),
        to_itk,
        lambda volume: meta_tensor(volume, lps=False),
        lambda volume: meta_tensor(volume, lps=True),
    ],
)
def test_images_of_every_library_lie_where_they_lay(given) -> None:
    volume = oblique()
    found = as_volume(given(volume))
    np.testing.assert_array_equal(found.array, volume.array)
    np.testing.assert_allclose(found.affine, volume.affine, atol=1e-5)


def test_nibabel_and_itk_read_one_file_to_the_same_place(tmp_path: Path) -> None:
    """Neither library knows of the other: their readers agree only if the conventions do."""
    path = tmp_path / "image.nii.gz"
    volume = oblique()
    write_nifti(volume, path)
    ours, theirs = as_volume(nib.load(path)), from_itk(sitk.ReadImage(str(path)))
    for found in (as_volume(path), as_volume(str(path)), ours, theirs):
        np.testing.assert_array_equal(found.array, volume.array)
        np.testing.assert_allclose(found.affine, volume.affine, atol=1e-4)
    inside = (3, 2, 5)
    point = affines.swap_lps_ras(volume.affine) @ [*inside, 1]
    image = sitk.ReadImage(str(path))
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(inside), point[:3], atol=1e-4)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_files_of_itk_are_read_as_well(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"image{suffix}"
    sitk.WriteImage(to_itk(oblique()), str(path))
    np.testing.assert_allclose(as_volume(path).affine, oblique().affine, atol=1e-4)


def test_nifti_in_other_units_is_in_mm() -> None:
    image = nib.Nifti1Image(oblique().array, np.diag([0.001, 0.002, 0.003, 1]))
    image.header.set_xyzt_units("meter")
    np.testing.assert_allclose(as_volume(image).spacing, (1, 2, 3), rtol=1e-6)


@pytest.mark.parametrize(
    ("image", "line"),
    [
        (np.zeros((3, 3, 3)), "ndarray: not an image with geometry; give a path"),
        (torch.zeros(3, 3, 3), "Tensor: not an image with geometry"),
        (None, "NoneType: not an image"),
        ((np.zeros((3, 3)), np.eye(4)), "needs three axes"),
        ((np.zeros((3, 3, 3)), np.eye(3)), "an affine is 4x4"),
        ((np.zeros((3, 3, 3), complex), np.eye(4)), "complex128 are not grey values"),
        (MetaTensor(torch.zeros(2, 3, 3, 3)), "needs three axes"),
        (sitk.Image(4, 4, sitk.sitkUInt8), "not a single 3D image"),
        (sitk.Image([4, 4, 4], sitk.sitkVectorUInt8, 3), "not a single 3D image"),
        (nib.Nifti1Image(np.zeros((3, 3, 3, 2)), np.eye(4)), "needs three axes"),
        (nib.Nifti1Image(np.zeros((3, 3, 3)), None), "no patient coordinates"),
        ("no/such/file.nii.gz", "no such file"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(image: object, line: str) -> None:
    with pytest.raises(nestseg.InputError, match=re.escape(line)) as error:
        as_volume(image)
    assert "\n" not in str(error.value)


def test_a_dicom_series_goes_in_and_a_seg_of_its_slices_comes_out(tmp_path: Path) -> None:
    head = Phantom(modality="MR", between_columns=1.0, between_rows=1.0)
    series = tmp_path / "series"
    write(head.datasets(), series)
    bundle = nestseg.load_bundle(BUNDLE)
    prediction = nestseg.segment(series, bundle)
    np.testing.assert_allclose(prediction.mask.affine, head.truth.affine, atol=1e-4)
    files = nestseg.write_dicom_seg(prediction, series, tmp_path / "case")
    seg = pydicom.dcmread(files.seg)
    sources = {pydicom.dcmread(path).SOPInstanceUID for path in series.iterdir()}
    (named,) = seg.ReferencedSeriesSequence
    assert {one.ReferencedSOPInstanceUID for one in named.ReferencedInstanceSequence} <= sources
    assert files.sr.is_file()
    with pytest.raises(nestseg.InputError, match="encoding 'best': give one of binary, labelmap"):
        nestseg.write_dicom_seg(prediction, series, tmp_path / "case", encoding="best")
    other = nestseg.segment((head.truth.array, head.truth.affine), bundle)
    with pytest.raises(nestseg.InputError, match="not made from this DICOM series"):
        nestseg.write_dicom_seg(other, series, tmp_path / "case")


def test_a_file_that_does_not_fit_the_bundle_is_refused_with_the_reason(tmp_path: Path) -> None:
    write(Phantom(name="ct").datasets(), tmp_path / "ct")
    with pytest.raises(nestseg.InputError, match="does not fit the bundle: modality CT"):
        nestseg.segment(tmp_path / "ct", BUNDLE)


def test_a_folder_needs_paths_and_encodings_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(nestseg.InputError, match="no such file or folder"):
        nestseg.segment_folder(tmp_path / "none", BUNDLE, tmp_path / "out")
    with pytest.raises(nestseg.InputError, match="tat: no such option; give one of tta, level"):
        nestseg.segment_folder(tmp_path, BUNDLE, tmp_path / "out", tat="mirror")
    with pytest.raises(nestseg.InputError, match="give one of binary, labelmap"):
        nestseg.segment_folder(tmp_path, BUNDLE, tmp_path / "out", dicom="seg")
    assert not (tmp_path / "out").exists()


def _classes() -> set[type[BaseException]]:
    """Every exception that the two packages define, but for those with a private name."""
    optional = "ray_|label\\.|engines|pacs\\."
    found = set()
    for package in (nestseg, nestseg_prep):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if info.name.endswith("__main__") or re.search(optional, info.name):
                continue
            module = importlib.import_module(info.name)
            for name, one in inspect.getmembers(module, inspect.isclass):
                if issubclass(one, BaseException) and one.__module__ == info.name:
                    found |= set() if name.startswith("_") else {one}
    return found


def test_all_errors_are_one_tree_and_the_drawing_shows_it() -> None:
    drawn: dict[str, tuple[str, ...]] = {}
    above: list[str] = []
    for line in inspect.getdoc(errors).splitlines():
        match = re.match(r"    ([ │├└─]*)(\w+Error)(?: \((\w+)\))?(?:  |$)", line)
        if match:
            depth = len(match[1]) // 4
            above[depth:] = [match[2]]
            parents = ([above[depth - 1]] if depth else ["Exception"]) + [match[3]] * bool(match[3])
            drawn[match[2]] = tuple(parents)
    classes = {one.__name__: tuple(base.__name__ for base in one.__bases__) for one in _classes()}
    assert classes == drawn
    assert issubclass(nestseg.InputError, ValueError)


def test_the_page_names_what_there_is() -> None:
    page = (ROOT / "docs" / "python.md").read_text()
    assert all(f"`{name}" in page for name in nestseg.__all__ if name != "__version__")
    assert json.dumps(sorted(nestseg.__all__)) == json.dumps(sorted(set(nestseg.__all__)))
