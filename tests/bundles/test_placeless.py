"""What the bundles' augmentation makes of plain tensors is what it makes of images with a place."""

from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data.meta_obj import get_track_meta
from monai.transforms import Compose, EnsureTyped, RandFlipd, Spacingd

from nestseg.bundle import locate
from nestseg_prep.transforms import TrainingSet, training_set
from nestseg_prep.transforms.placeless import placeless_keys
from nestseg_prep.volume import Volume

ROUNDS = 6
SMALL = {
    "ct_trunk_unetpp": ((40, 36, 30), [16, 16, 16]),
    "em_unet": ((230, 240, 1), [220, 220]),
    "em_window": ((60, 50, 1), None),
    "hippocampus_unet3d": ((34, 50, 38), None),
    "hippocampus_unetpp": ((34, 50, 38), None),
    "nuclei_unetpp": ((90, 150, 1), None),
}


def pipeline(bundle: str, size: list[int] | None) -> Compose:
    parser = ConfigParser()
    parser.read_config(locate.find(bundle) / "configs" / "train.json")
    if size:
        parser["train_size"] = size
    transform: Compose = parser.get_parsed_content("train#preprocessing")
    return transform.set_random_state(seed=3)


def case(shape: tuple[int, ...]) -> dict[str, Any]:
    random = np.random.default_rng(0)
    image = random.normal(100, 40, shape).astype(np.float32)
    label = (random.random(shape) < 0.4).astype(np.uint8)
    affine = np.diag([1.0, 1.1, 0.9, 1.0])
    return {"image": Volume(image, affine), "label": Volume(label, affine)}


def drawn(bundle: str, **options: Any) -> list[dict[str, Any]]:
    shape, size = SMALL[bundle]
    samples = TrainingSet([case(shape)], pipeline(bundle, size), **options)
    before = {key: array.copy() for key, array in samples.data[0].arrays.items()}
    found: list[dict[str, Any]] = []
    for _ in range(ROUNDS):
        sample = samples[0]
        found += sample if isinstance(sample, list) else [sample]
    for key, array in samples.data[0].arrays.items():
        assert np.array_equal(array, before[key]), "a transform wrote into the stored images"
    return found


@pytest.mark.parametrize("bundle", sorted(SMALL))
def test_samples_are_the_same_to_the_last_bit(bundle: str, monkeypatch: Any) -> None:
    plain = drawn(bundle)
    with monkeypatch.context() as patch:
        patch.setattr(training_set, "placeless_keys", lambda steps: frozenset())
        patch.setattr(training_set, "cuts_patches", lambda steps: False)
        placed = drawn(bundle)
    assert get_track_meta()
    assert len(plain) == len(placed) >= ROUNDS
    for one, other in zip(plain, placed, strict=True):
        assert one.keys() == other.keys()
        for key in ("image", "label"):
            assert type(one[key]) is type(other[key]) is torch.Tensor
            assert torch.equal(one[key], other[key])
    assert not torch.equal(plain[0]["image"], plain[-1]["image"]), "nothing was random"


@pytest.mark.parametrize("bundle", sorted(SMALL))
def test_every_recipe_is_augmented_without_metadata(bundle: str) -> None:
    transform = pipeline(bundle, None)
    samples = TrainingSet([case(SMALL[bundle][0])], transform)
    assert samples._placeless == {"image", "label"}


@pytest.mark.parametrize("bundle", ["ct_trunk_unetpp", "em_unet"])
def test_recipes_that_cut_first_copy_the_patch_alone(bundle: str) -> None:
    assert TrainingSet([case(SMALL[bundle][0])], pipeline(bundle, None))._crops_first


def test_samples_stay_on_the_device_that_augments() -> None:
    for one, other in zip(
        drawn("nuclei_unetpp"), drawn("nuclei_unetpp", device="cpu"), strict=True
    ):
        assert torch.equal(one["image"], other["image"])
        assert one["image"].device.type == "cpu"


def test_a_step_that_reads_the_place_gets_it() -> None:
    dropped = EnsureTyped(keys="image", track_meta=False)
    assert placeless_keys([RandFlipd(keys="image"), dropped]) == {"image"}
    assert not placeless_keys([RandFlipd(keys="image"), Spacingd("image", 2.0), dropped])
    assert not placeless_keys([RandFlipd(keys="image")])
    assert not placeless_keys([RandFlipd(keys="image"), EnsureTyped(keys="image")])
    assert not placeless_keys([])
