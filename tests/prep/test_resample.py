"""Slabs of a resampled image are those of MONAI's, value by value, and so is the way back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Compose, CopyItemsd, Orientationd, ScaleIntensityd, Spacingd
from scipy.spatial.transform import Rotation

from nestseg_prep.transforms import LoadVolumed, resample
from nestseg_prep.volume import Volume


def image(shape: tuple[int, ...], spacing: tuple[float, ...], angles=(0.0, 0.0, 0.0)) -> MetaTensor:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles).as_matrix() @ np.diag(spacing)
    affine[:3, 3] = (40.0, -12.0, 700.0)
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(1, *shape))).float()
    return MetaTensor(values, affine=torch.from_numpy(affine))


@pytest.mark.parametrize("padding_mode", ["border", "zeros"])
@pytest.mark.parametrize(
    ("shape", "spacing", "angles", "pixdim"),
    [
        ((31, 24, 40), (-0.8, 0.7, 1.3), (0.0, 0.0, 0.0), (1.5, 1.7, 1.1)),
        ((12, 9, 7), (2.0, 2.2, 5.1), (0.3, -0.2, 0.5), (0.9, 1.0, 1.0)),
        ((5, 40, 3), (0.61, -0.6, 3.0), (0.0, 0.0, 0.0), (3.0, 1.0, 1.3)),
    ],
)
def test_slabs_are_the_whole(shape, spacing, angles, pixdim, padding_mode, monkeypatch):
    def steps() -> Compose:
        spaced = Spacingd("image", pixdim, mode="bilinear", padding_mode=padding_mode)
        axes = [("L", "R"), ("P", "A"), ("I", "S")]
        return Compose([Orientationd("image", axcodes="RAS", labels=axes), spaced])

    data = {"image": image(shape, spacing, angles)}
    plain, sparing = steps(), steps()
    resample.spare_memory(sparing)
    monkeypatch.setattr(resample, "LARGE", 300)
    monkeypatch.setattr(resample, "SLAB", 300)
    ours, theirs = sparing(data)["image"], plain(data)["image"]
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-9)
    np.testing.assert_allclose(ours.as_tensor(), theirs.as_tensor(), atol=1e-6)
    assert [step["class"] for step in ours.applied_operations] == ["Orientation", "SlabResample"]
    back = sparing.inverse({"image": ours})["image"]
    expected = plain.inverse({"image": theirs})["image"]
    np.testing.assert_allclose(back.as_tensor(), expected.as_tensor(), atol=1e-6)
    np.testing.assert_allclose(back.affine, data["image"].affine, atol=1e-9)


def test_small_images_are_resampled_at_once(monkeypatch) -> None:
    step = Spacingd("image", (2.0, 2.0, 2.0), padding_mode="border")
    resample.spare_memory(Compose([step]))
    monkeypatch.setattr(resample, "_needed", lambda *_: pytest.fail("this image is small"))
    assert step({"image": image((9, 9, 9), (1.0, 1.0, 1.0))})["image"].shape == (1, 5, 5, 5)


@pytest.mark.parametrize("large", [300, 2**25])
@pytest.mark.parametrize("pixdim", [(1.5, 1.7, 1.1), (0.8, 0.7, 1.3)])
@pytest.mark.parametrize("left", [-0.8, 0.8])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
def test_narrow_values_give_what_wide_ones_give(dtype, left, pixdim, large, monkeypatch) -> None:
    def steps() -> Compose:
        spaced = Spacingd("image", pixdim, mode="bilinear", padding_mode="border")
        axes = [("L", "R"), ("P", "A"), ("I", "S")]
        turned = Orientationd("image", axcodes="RAS", labels=axes)
        return Compose([LoadVolumed("image"), turned, spaced])

    monkeypatch.setattr(resample, "LARGE", large)
    values = np.random.default_rng(0).integers(0, 255, (31, 24, 40)).astype(dtype)
    affine = np.diag([left, 0.7, 1.3, 1.0])
    plain, sparing = steps(), steps()
    resample.spare_memory(sparing)
    assert sparing.transforms[0].narrow
    data = {"image": Volume(np.asfortranarray(values), affine)}
    theirs, ours = plain(data)["image"], sparing(data)["image"]
    assert ours.dtype == theirs.dtype == torch.float32
    np.testing.assert_allclose(ours.as_tensor(), theirs.as_tensor(), atol=1e-4)
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-9)
    back, expected = sparing.inverse({"image": ours}), plain.inverse({"image": theirs})
    np.testing.assert_allclose(back["image"].affine, affine, atol=1e-9)
    np.testing.assert_allclose(back["image"].as_tensor(), expected["image"].as_tensor(), atol=1e-4)


@pytest.mark.parametrize(
    "between",
    [
        [ScaleIntensityd("image"), Spacingd("image", (2.0, 2.0, 2.0))],  # looks at values
        [CopyItemsd("image", names="copy"), Spacingd("image", (2.0, 2.0, 2.0))],
        [Spacingd("label", (2.0, 2.0, 2.0))],  # another key
        [Spacingd("image", (2.0, 2.0, 2.0), dtype=None)],  # in the values' own type
        [Spacingd("image", (2.0, 2.0, 2.0), lazy=True)],
    ],
)
def test_values_are_wide_for_all_but_a_resampling_in_floats(between) -> None:
    steps = Compose([LoadVolumed("image"), *between])
    resample.spare_memory(steps)
    assert not steps.transforms[0].narrow
