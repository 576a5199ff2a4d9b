"""Images synthesised from label maps: the shapes are those of the map, the contrast is random."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import EnsureTyped

from nestseg_prep.errors import InputError
from nestseg_prep.transforms import RandImageFromLabelsd, synthesis
from nestseg_prep.transforms.placeless import cuts_patches, placeless_keys
from nestseg_prep.transforms.synthesis import blurred, read_at, structure_numbers, with_thick_slices

SIZE = (12, 12, 12)
LEFT, RIGHT, STEM, SKULL = 17, 53, 16, 507
STRUCTURES = [[0], [LEFT], [RIGHT], [STEM, 170], [SKULL]]


def head(side: int = 30) -> torch.Tensor:
    """A map ``(1, side, side, side)``: a skull around a left and a right half and a stem."""
    grid = np.indices((side, side, side)) - (side - 1) / 2
    radius = np.sqrt((grid**2).sum(0))
    label = np.where(radius < 14, SKULL, 0)
    label[radius < 12] = np.where(grid[0] < 0, LEFT, RIGHT)[radius < 12]
    label[(np.abs(grid[:2]) < 3).all(0) & (radius < 12)] = STEM
    return torch.from_numpy(label.astype(np.int16))[None]


def synthesiser(seed: int = 0, **changes: Any) -> RandImageFromLabelsd:
    options: dict[str, Any] = {
        "structures": STRUCTURES,
        "classes": 4,
        "inside": 4,
        "pairs": [[1, 2]],
        "size": SIZE,
        "step": 2.0,
        "brightness": [None, 0.4, 0.4, 0.8, None],
    }
    made = RandImageFromLabelsd("label", **options | changes)
    made.set_random_state(seed)
    return made


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Nothing is random but the contrast; the test turns on what it looks at."""
    for name in ("ROTATION", "SCALING", "SHEARING", "ELASTIC_MM", "BIAS"):
        monkeypatch.setattr(synthesis, name, 0.0)
    for name in ("STRIPPED", "THICK", "MIRRORED", "TYPICAL", "DARK_AIR"):
        monkeypatch.setattr(synthesis, name, 0.0)
    monkeypatch.setattr(synthesis, "BLUR", (0.05, 0.05))
    return monkeypatch


def test_the_same_seed_draws_the_same_sample_and_the_map_stays() -> None:
    label_map = head()
    one, other, third = (synthesiser(seed)({"label": label_map}) for seed in (1, 1, 2))
    assert torch.equal(one["image"], other["image"])
    assert torch.equal(one["label"], other["label"])
    assert not torch.equal(one["image"], third["image"])
    assert torch.equal(label_map, head())
    for key in ("image", "label"):
        assert one[key].shape == (1, *SIZE)
        assert one[key].dtype == torch.float32
    assert one["image"].min() == 0
    assert one["image"].max() == pytest.approx(1, abs=1e-4)


def test_a_patch_that_nothing_moves_is_the_map_read_every_second_voxel() -> None:
    label_map = torch.arange(24**3).reshape(24, 24, 24)
    centre = np.array([11.0, 12.0, 13.0])
    found = read_at(label_map, 2 * torch.eye(3), centre, torch.zeros(3, 3, 5, 3))
    expected = label_map[9:14:2, 8:17:2, 11:16:2]
    assert torch.equal(found, expected)


def test_a_displacement_moves_what_is_read_and_outside_is_air() -> None:
    label_map = torch.arange(1, 9).reshape(8, 1, 1)
    shift = torch.zeros(3, 4, 1, 1)
    shift[0] = 4.0
    found = read_at(label_map, torch.eye(3), np.array([3.5, 0.0, 0.0]), shift)
    assert found.flatten().tolist() == [7, 8, 0, 0]


def test_what_is_not_learnt_is_background_and_several_values_are_one_structure(
    plain: pytest.MonkeyPatch,
) -> None:
    label_map = head()
    label_map[label_map == STEM] = 170
    found = synthesiser()({"label": label_map})["label"]
    assert found.unique().tolist() == [0, 1, 2, 3]
    assert structure_numbers(STRUCTURES)[[0, 53, 170, 507, 99]].tolist() == [0, 2, 3, 4, -1]


def test_each_structure_has_one_brightness_and_its_mirror_image_the_same(
    plain: pytest.MonkeyPatch,
) -> None:
    drawn = synthesiser(3)
    contrasts = [drawn._contrast() for _ in range(20)]
    for means, deviations in contrasts:
        assert means[1] == means[2]
        assert deviations[1] == deviations[2]
    assert np.std([means[3] for means, _ in contrasts]) > 0.2
    sample = drawn({"label": head()})
    image, label = sample["image"], sample["label"]
    inside = [image[label == value] for value in (1, 2)]
    assert abs(inside[0].mean() - inside[1].mean()) < 0.05


def test_half_of_the_images_are_near_the_typical_contrast(plain: pytest.MonkeyPatch) -> None:
    plain.setattr(synthesis, "TYPICAL", 1.0)
    drawn = synthesiser()
    means = np.array([drawn._contrast()[0] for _ in range(50)])
    assert np.abs(means[:, 3] - 0.8).max() < 0.3
    assert means[:, 4].std() > 0.2  # no typical brightness


def test_a_mirrored_head_has_left_and_right_exchanged(plain: pytest.MonkeyPatch) -> None:
    plain.setattr(synthesis, "STRIPPED", 0.0)
    label_map = head()
    label_map[0, :10, :10, :10] = STEM  # one corner, so that the head is not symmetric
    straight = synthesiser(5)({"label": label_map})["label"][0]
    plain.setattr(synthesis, "MIRRORED", 1.0)
    mirrored = synthesiser(5)({"label": label_map})["label"][0]
    swapped = torch.tensor([0, 2, 1, 3])[straight.long()].flip(0)
    assert torch.equal(mirrored.long(), swapped)
    assert not torch.equal(mirrored, straight)


def test_without_the_skull_all_outside_of_the_brain_is_black(plain: pytest.MonkeyPatch) -> None:
    plain.setattr(synthesis, "STRIPPED", 1.0)
    label_map = head()
    sample = synthesiser(step=2.6)({"label": label_map})
    assert torch.unique(sample["image"][sample["label"] == 0]).numel() == 1
    assert sample["image"][sample["label"] > 0].std() > 0


def test_a_value_that_no_structure_has_is_refused() -> None:
    label_map = head()
    label_map[label_map == STEM] = 99
    with pytest.raises(InputError, match="99 in a label map is no structure"):
        synthesiser()({"label": label_map})
    with pytest.raises(ValueError, match="5 structures, 1 of brightness"):
        synthesiser(brightness=[0.5])


def test_a_blur_keeps_the_mass_and_spreads_it_by_its_deviation() -> None:
    image = torch.zeros(21, 21, 21)
    image[10, 10, 10] = 1
    spread = blurred(image, [1.5, 0.6, 0.05])
    assert spread.sum() == pytest.approx(1, abs=1e-5)
    steps = torch.arange(21) - 10
    deviations = [
        float((spread.sum(dim=[a for a in range(3) if a != axis]) * steps**2).sum()) ** 0.5
        for axis in range(3)
    ]
    assert deviations == pytest.approx([1.5, 0.6, 0], abs=0.06)


def test_thick_slices_are_means_along_their_axis_alone() -> None:
    image = torch.arange(12.0).expand(4, 5, 12).clone()
    thick = with_thick_slices(image, 2, 3.0)
    assert thick.shape == image.shape
    assert thick[0, 0, [1, 4, 7, 10]].tolist() == pytest.approx([1, 4, 7, 10])
    assert thick[0, 0, 0] == thick[0, 0, 1]  # half a slice at the border has no neighbour
    across = with_thick_slices(image, 0, 2.0)
    assert torch.allclose(across, image)


def test_it_is_known_to_need_no_place_and_to_cut() -> None:
    steps = [synthesiser(), EnsureTyped(keys=["image", "label"], track_meta=False)]
    assert cuts_patches(steps)
    assert placeless_keys(steps) == {"image", "label"}
