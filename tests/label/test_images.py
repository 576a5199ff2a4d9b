"""Images as clients send them, and label maps as they ask for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from nestseg.label.images import read_labels, write_labels
from nestseg_prep import phantom
from nestseg_prep.errors import InputError
from nestseg_prep.images import ending, read_image
from nestseg_prep.nifti import read_nifti, write_nifti
from nestseg_prep.phantom import Phantom
from nestseg_prep.picture import read_picture, write_picture
from nestseg_prep.selection import Selection
from nestseg_prep.volume import Volume


def oblique(array: np.ndarray) -> Volume:
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn * [0.8, 1.2, 2.0]
    affine[:3, 3] = [10, -20, 30]
    return Volume(array, affine)


LABELS = oblique(np.random.default_rng(1).integers(0, 3, (9, 8, 7)).astype(np.uint8))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".seg.nrrd", ".mha"])
@pytest.mark.parametrize("compress", [True, False])
def test_every_kind_of_file_holds_the_same_voxels_at_the_same_places(
    suffix: str, compress: bool
) -> None:
    path = write_labels(LABELS, suffix, compress=compress)
    try:
        assert path.name.endswith(suffix)
        back = read_labels(path)
    finally:
        path.unlink()
    np.testing.assert_array_equal(back.array, LABELS.array)
    np.testing.assert_allclose(back.affine, LABELS.affine, atol=1e-4)


def test_nrrd_and_nifti_of_one_label_lie_on_each_other_for_another_reader() -> None:
    paths = [write_labels(LABELS, suffix) for suffix in (".nii.gz", ".nrrd")]
    first, second = (sitk.ReadImage(str(path)) for path in paths)
    for path in paths:
        path.unlink()
    for index in ((0, 0, 0), (8, 7, 6)):
        places = [image.TransformIndexToPhysicalPoint(index) for image in (first, second)]
        np.testing.assert_allclose(places[0], places[1], atol=1e-4)


def test_nrrd_of_a_series_lies_in_the_order_of_its_pixels(tmp_path: Path) -> None:
    """OHIF takes the bytes without the header: columns, then rows from the first, then slices."""
    series = Phantom(plane="oblique", columns=9, rows=8, slices=7)
    phantom.write(series.datasets(), tmp_path / "series")
    image = read_image(tmp_path / "series")
    labels = replace(image, array=(np.asarray(image.array) > 0).astype(np.uint8), fill=())
    path = write_labels(labels, ".nrrd", compress=False)
    ours, stored = sitk.ReadImage(str(path)), sitk.ImageSeriesReader()
    path.unlink()
    stored.SetFileNames(stored.GetGDCMSeriesFileNames(str(tmp_path / "series")))
    theirs = stored.Execute()
    np.testing.assert_allclose(ours.GetDirection(), theirs.GetDirection(), atol=1e-5)
    np.testing.assert_allclose(ours.GetOrigin(), theirs.GetOrigin(), atol=1e-3)
    pixels = sitk.GetArrayFromImage(theirs)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), pixels > 0)


def test_nrrd_images_are_read_as_nifti_ones(tmp_path: Path) -> None:
    image = oblique(np.random.default_rng(2).normal(size=(9, 8, 7)).astype(np.float32))
    write_nifti(image, tmp_path / "image.nii.gz")
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "image.nii.gz")), str(tmp_path / "image.nrrd"))
    plain, nrrd = (read_image(tmp_path / f"image{e}") for e in (".nii.gz", ".nrrd"))
    np.testing.assert_array_equal(nrrd.array, plain.array)
    np.testing.assert_allclose(nrrd.affine, plain.affine, atol=1e-4)


def test_pictures_stay_pictures(tmp_path: Path) -> None:
    array = np.random.default_rng(3).integers(0, 2, (12, 10, 1)).astype(np.uint8)
    picture = Volume(array, np.diag([-1.0, -1.0, 1.0, 1.0]))
    write_picture(picture, tmp_path / "p.png")
    assert read_image(tmp_path / "p.png").shape == (12, 10, 1)
    path = write_labels(picture, ".jpg")
    try:
        assert path.suffix == ".png"
        np.testing.assert_array_equal(read_picture(path).array, array)
        np.testing.assert_array_equal(read_labels(path).array, array)
    finally:
        path.unlink()


def test_what_a_bundle_does_not_take_is_refused_with_the_reason(tmp_path: Path) -> None:
    write_nifti(oblique(np.zeros((9, 8, 7), np.float32)), tmp_path / "small.nii.gz")
    with pytest.raises(InputError, match="does not fit the bundle: field of view"):
        read_image(tmp_path / "small.nii.gz", Selection(extent_mm=[100, 300]))


@pytest.mark.parametrize("value", [0.5, -1.0, 70000.0])
def test_labels_are_numbers_of_classes(tmp_path: Path, value: float) -> None:
    write_nifti(Volume(np.full((4, 4, 4), value, np.float32), np.eye(4)), tmp_path / "l.nii.gz")
    with pytest.raises(InputError, match="export it as a label map"):
        read_labels(tmp_path / "l.nii.gz")


def test_labels_that_clients_store_as_float_are_whole_numbers(tmp_path: Path) -> None:
    image = nib.Nifti1Image(LABELS.array.astype(np.float32), LABELS.affine)
    nib.save(image, tmp_path / "l.nii.gz")
    assert read_labels(tmp_path / "l.nii.gz").array.dtype == np.uint8


def test_another_type_or_kind() -> None:
    path = write_labels(LABELS, ".nii.gz", dtype="float32")
    try:
        assert read_nifti(path).array.dtype == np.float32
    finally:
        path.unlink()
    with pytest.raises(InputError, match="no kind of label map"):
        write_labels(LABELS, ".stl")
    with pytest.raises(InputError, match="no type of NumPy"):
        write_labels(LABELS, ".nii.gz", dtype="banana")


def test_endings() -> None:
    names = ("a.nii.gz", "a.NII", "b.seg.nrrd", "b.nrrd", "c.PNG", "folder", "1.2.840")
    assert [ending(n) for n in names] == [".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".png", "", ""]
