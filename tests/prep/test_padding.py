"""Mirror padding: numpy's reflection at any width, undone exactly, in place in the patient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.meta_tensor import MetaTensor

from nestseg_prep.padding import mirror_index, mirror_pad, symmetric_padding, unpad
from nestseg_prep.transforms import MirrorPadd, mirror_pad_tensor

Padding = list[tuple[int, int]]


@st.composite
def images(draw: st.DrawFn) -> tuple[np.ndarray, Padding]:
    """A small array of distinct voxels, and paddings far wider than it."""
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    widest = 60 if len(shape) < 3 else 12
    width = st.integers(0, widest)
    return np.arange(np.prod(shape)).reshape(shape), [draw(st.tuples(width, width)) for _ in shape]


@settings(deadline=None)
@given(images())
def test_mirroring_equals_numpys_reflection_at_any_width(case: tuple[np.ndarray, Padding]) -> None:
    array, padding = case
    np.testing.assert_array_equal(
        mirror_pad(array, padding), np.pad(array, padding, mode="reflect")
    )


@settings(deadline=None)
@given(images())
def test_tensors_are_mirrored_like_arrays(case: tuple[np.ndarray, Padding]) -> None:
    array, padding = case
    mirrored = mirror_pad_tensor(torch.from_numpy(array), padding)
    np.testing.assert_array_equal(mirrored.numpy(), mirror_pad(array, padding))


@settings(deadline=None)
@given(images())
def test_unpad_is_the_exact_inverse(case: tuple[np.ndarray, Padding]) -> None:
    array, padding = case
    np.testing.assert_array_equal(unpad(mirror_pad(array, padding), padding), array)
    tensor = torch.from_numpy(array)
    assert torch.equal(unpad(mirror_pad_tensor(tensor, padding), padding), tensor)


def test_the_edge_is_not_repeated() -> None:
    assert mirror_pad(np.array([1, 2, 3]), [(4, 3)]).tolist() == [1, 2, 3, 2, 1, 2, 3, 2, 1, 2]


def test_a_single_voxel_is_repeated() -> None:
    assert mirror_pad(np.array([7]), [(2, 3)]).tolist() == [7] * 6


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.float16, np.float64])
def test_only_the_last_axes_are_mirrored_and_the_dtype_stays(dtype: type) -> None:
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4).astype(dtype)
    mirrored = mirror_pad(array, [(1, 9)])
    assert mirrored.dtype == array.dtype
    np.testing.assert_array_equal(mirrored, np.pad(array, [(0, 0), (0, 0), (1, 9)], mode="reflect"))


@pytest.mark.parametrize(("size", "before", "after"), [(0, 1, 1), (3, -1, 0), (3, 0, -1)])
def test_what_cannot_be_mirrored_is_refused(size: int, before: int, after: int) -> None:
    with pytest.raises(ValueError, match="cannot mirror"):
        mirror_index(size, before, after)


@given(st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90)), min_size=1, max_size=3))
def test_symmetric_padding_reaches_the_size_and_centres_the_image(
    sizes: list[tuple[int, int]],
) -> None:
    have, want = zip(*sizes, strict=True)
    for n, least, (before, after) in zip(have, want, symmetric_padding(have, want), strict=True):
        assert before + n + after == max(n, least)
        assert after - before in (0, 1)


def meta_image(shape: tuple[int, ...], affine: np.ndarray) -> MetaTensor:
    voxels = torch.arange(float(np.prod(shape))).reshape(1, *shape)
    return MetaTensor(voxels, affine=torch.from_numpy(affine))


OBLIQUE = np.array(
    [[0.8, 0.1, -0.3, -90.0], [-0.2, 0.9, 0.4, 126.5], [0.3, -0.5, 2.5, -72.25], [0, 0, 0, 1.0]]
)


@pytest.mark.parametrize("shape", [(3, 4, 2), (1, 1, 1), (9, 3, 30), (5, 2)])
def test_padded_voxels_keep_their_place_in_the_patient(shape: tuple[int, ...]) -> None:
    """RAS mm of a voxel, and its value, before and after; also for a 2D image."""
    image = meta_image(shape, OBLIQUE)
    padded = MirrorPadd("image", (8,) * len(shape))({"image": image})["image"]
    assert padded.shape[1:] == tuple(max(8, n) for n in shape)
    before = np.array([b for b, _ in symmetric_padding(shape, (8,) * len(shape))])
    missing_axes = (0,) * (3 - len(shape))
    for index in np.ndindex(shape):
        there = (*(index + before), *missing_axes, 1)
        here = (*index, *missing_axes, 1)
        np.testing.assert_allclose(padded.affine.numpy() @ there, OBLIQUE @ here, atol=1e-9)
        assert padded[(0, *(index + before))] == image[(0, *index)]


def test_image_and_label_are_padded_alike_and_the_input_stays() -> None:
    image = meta_image((3, 4, 2), OBLIQUE)
    case = {"image": image, "label": image.clone(), "name": "case"}
    padded = MirrorPadd(["image", "label"], (6, 6, 6))(case)
    assert torch.equal(padded["image"], padded["label"])
    assert padded["name"] == "case"
    assert case["image"].shape == (1, 3, 4, 2)
    np.testing.assert_array_equal(image.affine.numpy(), OBLIQUE)


def test_a_plain_tensor_is_padded_too() -> None:
    padded = MirrorPadd("image", (6,))({"image": torch.tensor([[1.0, 2.0]])})["image"]
    assert padded.tolist() == [[1.0, 2.0, 1.0, 2.0, 1.0, 2.0]]
