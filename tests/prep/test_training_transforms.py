"""The training transforms: right in a MONAI pipeline, and the same for the same seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from nestseg_prep.geometry import AxisGeometry, Geometry, GridAxis
from nestseg_prep.transforms import (
    BorderWeightd,
    CropToOutputd,
    MirrorPadd,
    RandBalancedPatchesd,
    RandGridDeformd,
)
from nestseg_prep.weight_map import weight_map

VALID = Geometry((GridAxis((2,), (4, 4), (4,)).geometry(),) * 2)  # margin 16
WINDOW = Geometry((AxisGeometry(margin=14, period=2, residue=1, minimum=15),) * 2)
AFFINE = torch.tensor(
    [[0.0, -2.0, 0.0, 5.0], [3.0, 0.0, 0.0, -7.0], [0.0, 0.0, 1.0, 2.0], [0.0, 0.0, 0.0, 1.0]],
    dtype=torch.float64,
)


def case(shape: tuple[int, int] = (30, 26)) -> dict[str, Any]:
    """An image that says where each pixel lies in it, and a label with a rare class."""
    rows, columns = np.indices(shape).astype(np.float32)
    label = np.zeros(shape, dtype=np.float32)
    label[2, 3:6] = 1
    return {
        "image": MetaTensor(torch.from_numpy(np.stack([rows, columns])), affine=AFFINE.clone()),
        "label": MetaTensor(torch.from_numpy(label[None]), affine=AFFINE.clone()),
        "name": "case",
    }


def place(image: Any, voxel: tuple[int, int]) -> torch.Tensor:
    """Where a voxel lies in the patient, by the image's affine."""
    return image.affine @ torch.tensor([*voxel, 0, 1], dtype=torch.float64)


def test_image_and_label_are_deformed_alike() -> None:
    data = case()
    data["copy"] = data["image"].clone()
    deformer = RandGridDeformd(
        ["image", "copy", "label"], sigma=3.0, mode=["nearest", "bilinear", "nearest"]
    ).set_random_state(seed=4)
    deformed = deformer(data)
    rows, columns = deformed["image"].long().numpy()  # where each pixel came from
    np.testing.assert_array_equal(deformed["label"][0], data["label"][0].numpy()[rows, columns])
    assert (deformed["image"] - deformed["copy"]).abs().max() <= 0.5 + 1e-4
    assert isinstance(deformed["label"], MetaTensor)
    assert deformed["label"].dtype == torch.float32
    assert torch.equal(deformed["image"].affine, AFFINE)


def test_the_same_seed_deforms_alike_and_the_next_draw_does_not() -> None:
    first, again = (RandGridDeformd("image").set_random_state(seed=1) for _ in range(2))
    a, b, c = first(case())["image"], again(case())["image"], first(case())["image"]
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_probability_zero_and_sigma_zero_leave_the_image_alone() -> None:
    for transform in (RandGridDeformd("image", prob=0.0), RandGridDeformd("image", sigma=0.0)):
        assert torch.equal(transform(case())["image"], case()["image"])


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="mode must be one of bilinear, nearest"):
        RandGridDeformd("image", mode="bicubic")


def test_a_key_that_may_be_missing_is_passed_over() -> None:
    data = {"image": torch.ones(1, 6, 6)}
    assert set(RandGridDeformd(["none", "image"], allow_missing_keys=True)(data)) == {"image"}
    assert RandGridDeformd(["none"], allow_missing_keys=True)(data) == data


def test_the_target_carries_class_and_weight() -> None:
    instances = torch.zeros(1, 12, 15)
    instances[0, :, :7], instances[0, :, 7:] = 1, 2
    target = BorderWeightd("label")({"label": instances})["label"]
    assert target.shape == (2, 12, 15)
    assert target.dtype == torch.float32
    separated = instances.clone()
    separated[0, :, 6] = 0
    assert torch.equal(target[0], (separated[0] > 0).float())
    expected = weight_map(separated[0].numpy().astype(int))
    np.testing.assert_array_equal(target[1], expected)


def test_a_valid_patch_lies_in_the_middle_of_its_image() -> None:
    cutter = RandBalancedPatchesd("image", "label", VALID, size=(7, 5), number=6)
    samples = cutter.set_random_state(seed=0)(case())
    assert len(samples) == 6
    data = case()
    for sample in samples:
        assert sample["image"].shape == (2, 24, 22)
        assert sample["label"].shape == (1, 8, 6)
        assert sample["name"] == "case"
        rows, columns = sample["image"][:, 8:-8, 8:-8].long().numpy()
        np.testing.assert_array_equal(sample["label"][0], data["label"][0].numpy()[rows, columns])
    with_rare = sum(bool(sample["label"].any()) for sample in samples)
    assert with_rare >= 3


def test_a_window_classifiers_patches_are_windows_around_pixels_of_each_class() -> None:
    cutter = RandBalancedPatchesd("image", "label", WINDOW, size=(1, 1), number=6)
    samples = cutter.set_random_state(seed=0)(case())
    assert {tuple(sample["image"].shape) for sample in samples} == {(2, 15, 15)}
    assert sum(sample["label"].item() for sample in samples) == 3
    centres = {tuple(s["image"][:, 7, 7].tolist()) for s in samples if s["label"].item()}
    assert centres == {(2, 3), (2, 4), (2, 5)}


def test_patches_follow_the_seed() -> None:
    def patches(seed: int) -> list[torch.Tensor]:
        cutter = RandBalancedPatchesd("image", "label", WINDOW, size=(1, 1), number=9)
        return [sample["image"] for sample in cutter.set_random_state(seed=seed)(case())]

    assert all(torch.equal(a, b) for a, b in zip(patches(3), patches(3), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(patches(3), patches(4), strict=True))


def test_a_crop_and_a_patch_keep_their_place_in_the_patient() -> None:
    data = case((30, 26))
    whole = data["image"]
    cropped = CropToOutputd("label", VALID)(data)["label"]
    assert cropped.shape == (1, 14, 10)
    assert torch.equal(place(cropped, (0, 0)), place(whole, (8, 8)))
    assert torch.equal(data["label"].affine, AFFINE)
    (patch,) = RandBalancedPatchesd("image", "label", VALID, (2, 2), 1).set_random_state(seed=1)(
        case((30, 26))
    )
    centre = tuple(patch["image"][:, 9, 9].long().tolist())
    assert torch.equal(place(patch["image"], (9, 9)), place(whole, centre))
    assert torch.equal(place(patch["label"], (1, 1)), place(whole, centre))


def test_a_padded_image_keeps_its_place_in_the_patient() -> None:
    whole = case()["image"]
    padded = MirrorPadd("image", (40, 31))(case())["image"]
    assert padded.shape == (2, 40, 31)
    assert torch.equal(place(padded, (5, 2)), place(whole, (0, 0)))


def test_they_chain_in_a_monai_pipeline() -> None:
    pipeline = Compose(
        [
            RandGridDeformd(["image", "label"], sigma=2.0, mode=["bilinear", "nearest"]),
            RandBalancedPatchesd("image", "label", VALID, size=(8, 8), number=3),
            BorderWeightd("label"),
        ]
    ).set_random_state(seed=0)
    samples = pipeline(case())
    assert [sample["label"].shape for sample in samples] == [(2, 8, 8)] * 3
