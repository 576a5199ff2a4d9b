"""Labels laid on the voxels of an image."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestseg_prep.errors import InputError
from nestseg_prep.nifti import write_nifti
from nestseg_prep.nifti_header import LABELS
from nestseg_prep.on_grid import labels_on, same_grid
from nestseg_prep.picture import write_picture
from nestseg_prep.transforms import LoadVolumed
from nestseg_prep.volume import Volume

SHAPE = (7, 6, 5)


def image_and_label(seed: int) -> tuple[Volume, Volume]:
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn * [0.7, 1.1, 2.5]
    affine[:3, 3] = rng.normal(0, 50, 3)
    label = np.zeros(SHAPE, np.uint8)
    label[2:5, 1:5, 2:4] = rng.integers(0, 4, (3, 4, 2))
    return Volume(np.zeros(SHAPE, np.float32), affine), Volume(label, affine)


@given(
    st.integers(0, 1000),
    st.sampled_from(list(itertools.permutations(range(3)))),
    st.tuples(*[st.booleans()] * 3),
    st.booleans(),
    st.booleans(),
)
def test_flipped_turned_and_cropped_labels_keep_every_voxel(
    seed: int, order: tuple[int, ...], flips: tuple[bool, ...], crop: bool, exact: bool
) -> None:
    image, label = image_and_label(seed)
    move = np.zeros((4, 4))
    move[3, 3] = 1
    array = label.array.transpose(order)
    for new, old in enumerate(order):
        move[old, new] = 1
    start = np.zeros(3)
    if crop:
        begin = [
            next(i for i in range(n) if array.take(i, a).any()) if array.any() else 0
            for a, n in enumerate(array.shape)
        ]
        array = array[begin[0] :, begin[1] :, begin[2] :]
        start = np.array(begin, dtype=float)
    move[:3, 3] = move[:3, :3] @ start
    for axis, flip in enumerate(flips):
        if flip:
            array = np.flip(array, axis)
            move[:3, 3] += move[:3, axis] * (array.shape[axis] - 1)
            move[:3, axis] *= -1
    laid = labels_on(Volume(np.ascontiguousarray(array), image.affine @ move), image, exact=exact)
    np.testing.assert_array_equal(laid.array, label.array)
    np.testing.assert_array_equal(laid.affine, image.affine)


def test_another_spacing_is_sampled_or_refused() -> None:
    image, _ = image_and_label(0)
    finer = Volume(np.ones((14, 6, 5), np.uint8), image.affine @ np.diag([0.5, 1, 1, 1]))
    assert labels_on(finer, image).array.all()
    with pytest.raises(InputError, match="another grid"):
        labels_on(finer, image, exact=True)
    away = image.affine.copy()
    away[:3, 3] += 1000
    assert not labels_on(Volume(np.ones(SHAPE, np.uint8), away), image).array.any()
    with pytest.raises(InputError, match="another grid"):
        labels_on(Volume(np.ones(SHAPE, np.uint8), away), image, exact=True)


def test_half_a_voxel_off_is_refused_where_it_counts() -> None:
    image, label = image_and_label(1)
    off = image.affine.copy()
    off[:3, 3] += off[:3, 0] / 2
    shifted = Volume(label.array, off)
    assert not same_grid(shifted, image)
    with pytest.raises(InputError, match="another grid"):
        labels_on(shifted, image, exact=True)


def test_a_label_on_another_grid_is_laid_on_its_image_when_it_is_read(tmp_path: Path) -> None:
    image, label = image_and_label(2)
    shift = np.eye(4)
    shift[:3, 3] = [1, 0, 2]
    cropped = Volume(np.ascontiguousarray(label.array[1:6, :, 2:]), image.affine @ shift)
    paths = {"image": tmp_path / "image.nii.gz", "label": tmp_path / "label.nii.gz"}
    for path, volume in zip(paths.values(), (image, cropped), strict=True):
        write_nifti(volume, path)
    data = LoadVolumed(keys=("image", "label"))(dict(paths))
    np.testing.assert_array_equal(np.asarray(data["label"][0]), label.array)
    np.testing.assert_allclose(data["label"].affine, data["image"].affine)
    alone = LoadVolumed(keys="label")(dict(paths))
    assert alone["label"].shape[1:] == cropped.shape


@pytest.mark.parametrize("ending", ["nii.gz", "png"])
def test_a_mask_that_nestseg_wrote_is_a_label_when_it_is_named(tmp_path: Path, ending: str) -> None:
    label = Volume(np.arange(12, dtype=np.uint8).reshape(4, 3, 1), np.eye(4))
    path = tmp_path / f"case_seg.{ending}"
    if ending == "png":
        write_picture(label, path, result=True)
    else:
        write_nifti(label, path, mark=LABELS)
    np.testing.assert_array_equal(LoadVolumed("label")({"label": path})["label"][0], label.array)
    with pytest.raises(InputError, match="0 acceptable series"):  # a folder holds no image
        LoadVolumed("label")({"label": tmp_path})
