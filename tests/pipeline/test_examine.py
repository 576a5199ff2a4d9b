"""What a bundle says of an image besides the mask: how sure it is, how probable, at which level."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import Compose, CropForegroundd, Invertd, Lambdad

from nestseg.bundle import locate, way_back
from nestseg.bundle.bundle import Bundle
from nestseg.bundle.flips import trained_axes
from nestseg.bundle.in_process import InProcess
from nestseg.bundle.options import SegmentOptions, read_level
from nestseg.bundle.passes import cost, mirrored_axes, names_sides
from nestseg.inferers import Answers
from nestseg.networks import GridUNet
from nestseg.networks.outputs import head_disagreement
from nestseg.outputs.segmentation import STEP, uncertainty_score
from nestseg_prep.errors import InputError
from nestseg_prep.volume import Volume
from tests.opened import changed, models, opened

BUNDLE = "hippocampus_unetpp"


@pytest.fixture(scope="module")
def folder() -> Path:
    return locate.find(BUNDLE)


def tiny(bundle: Bundle) -> Bundle:
    """A bundle and its members with small networks that never learned anything."""
    small = []
    for seed, model in enumerate(models(bundle)):
        torch.manual_seed(seed)
        network = GridUNet(3, 1, 3, (3, 4, 5, 6), "unet++", norm="instance", act="leakyrelu")
        small.append(replace(model, network=network.eval(), _parts={}))
    return Bundle(InProcess(tuple(small)), bundle.options)


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    return tiny(opened(folder))


def crop(spacing: tuple[float, float, float] = (0.9, 1.1, 1.3)) -> Volume:
    """Something like a bright hippocampus, stored from right to left."""
    shape = (30, 38, 24)
    rng = np.random.default_rng(3)
    i, j, k = np.indices(shape)
    body = ((i - 14) / 6) ** 2 + ((j - 18) / 13) ** 2 + ((k - 12) / 5) ** 2 < 1
    image = 200 + 150 * body + rng.normal(0, 25, shape)
    affine = np.diag([-spacing[0], spacing[1], spacing[2], 1.0])
    affine[:3, 3] = (30.0, -12.0, 5.0)
    return Volume(image.astype(np.float32), affine)


def by_monai(bundle: Bundle, volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    """The mask, and the heads' disagreement on it, by MONAI's transforms one after the other."""
    (model,) = models(bundle)
    data = model.preprocessing({"image": volume})
    with torch.no_grad():
        both = model.inferer(data["image"][None], Answers(model.network))[0]
    mask = model.postprocessing({**data, "pred": both[:-1]})["pred"]
    invert = model.postprocessing.transforms[1]
    spread = way_back.inverted(both[-1].numpy(), data, invert, volume)
    return np.asarray(mask[0]).astype(np.uint8), spread


def test_voxels_that_are_not_finite_follow_the_rule_of_files(bundle) -> None:
    volume = crop()
    lowest = volume.array.copy()
    lowest[3, 4, 5] = lowest[20, 30, 10] = volume.array.min()
    broken = volume.array.copy()
    broken[3, 4, 5], broken[20, 30, 10] = np.nan, np.inf
    masks = [bundle.predict(replace(volume, array=array)).mask.array for array in (lowest, broken)]
    assert masks[0].any()
    np.testing.assert_array_equal(*masks)
    broken[0] = np.nan
    with pytest.raises(InputError, match="voxels are NaN or infinite"):
        bundle.predict(replace(volume, array=broken))


def test_mask_and_uncertainty_lie_where_the_inverse_transforms_put_them(bundle) -> None:
    volume = crop()
    # Another library, which `auto` takes after some images, rounds otherwise.
    found = bundle.predict(volume, SegmentOptions(save_uncertainty=True, runtime="torch"))
    mask, spread = by_monai(bundle, volume)
    np.testing.assert_array_equal(found.mask.array, mask)
    np.testing.assert_array_equal(found.mask.affine, volume.affine)
    np.testing.assert_array_equal(found.uncertainty_map.affine, volume.affine)
    np.testing.assert_allclose(found.uncertainty_map.array * STEP, spread, atol=1e-5)
    assert mask.any()
    assert 0 < found.uncertainty < 1
    np.testing.assert_array_equal(bundle.predict(volume).mask.array, mask)


def test_probabilities_add_up_to_one_and_their_largest_is_the_mask(bundle) -> None:
    found = bundle.predict(crop(), SegmentOptions(save_probabilities=True))
    values, volumes = zip(*found.probabilities(), strict=True)
    assert values == (0, 1, 2)
    stacked = np.stack([volume.array for volume in volumes])
    assert stacked.dtype == np.uint16
    np.testing.assert_allclose(stacked.sum(axis=0) * STEP, 1, atol=2 * STEP)
    top = np.sort(stacked, axis=0)
    clear = top[-1] > top[-2] + 1
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(stacked.argmax(axis=0)[clear], found.mask.array[clear])
    assert not list(bundle.predict(crop()).probabilities())


def test_a_level_gives_the_mask_of_its_head_and_keeps_the_heads_before_it(bundle) -> None:
    image, masks = crop((1.0, 1.0, 1.0)), []
    for level in (1, 2, 3):
        (model,) = models(bundle)
        part = model.network_at(level)
        assert part is model.network_at(level)
        assert part.levels == list(range(1, level + 1))
        found = bundle.predict(image, SegmentOptions(level=level))
        pruned = changed(bundle, network=model.network.pruned(level))
        np.testing.assert_array_equal(found.mask.array, pruned.predict(image).mask.array)
        assert (found.uncertainty is None) == (level == 1)
        masks.append(found.mask.array)
    assert not np.array_equal(masks[0], masks[2])
    np.testing.assert_array_equal(masks[2], bundle.predict(image).mask.array)


def test_a_level_that_is_not_there_is_refused_before_any_case(folder: Path) -> None:
    with pytest.raises(InputError, match=r"no level L4; its network has L1, L2, L3"):
        opened(folder, SegmentOptions(level=4))
    with pytest.raises(InputError, match="no levels"):
        opened(locate.find("em_window"), SegmentOptions(level=1))


def test_mirroring_averages_over_mirrored_images(bundle) -> None:
    """In one tile, mirroring tiles is mirroring the image."""
    assert models(bundle)[0].mirrored == (0,)
    volume, both = crop((1.0, 1.0, 1.0)), changed(bundle, mirrored=(0, 1))
    found = both.predict(volume, SegmentOptions(tta="mirror", save_probabilities=True))
    sums = np.zeros((3, *volume.shape))
    for flips in np.ndindex(2, 2):
        axes = np.flatnonzero(flips)
        mirrored = replace(volume, array=np.flip(volume.array, axes).copy())
        each = bundle.predict(mirrored, SegmentOptions(save_probabilities=True))
        sums += np.stack([np.flip(p.array, axes) for _, p in each.probabilities()])
    ours = np.stack([p.array for _, p in found.probabilities()])
    inner = (slice(None), *[slice(4, -4)] * 3)  # the border is mirrored up to other sizes
    np.testing.assert_allclose(ours[inner] * STEP, sums[inner] / 4 * STEP, atol=0.02)
    assert found.uncertainty > 0


def test_a_network_that_saw_no_mirrored_image_is_shown_none(folder: Path) -> None:
    options, never = SegmentOptions(tta="mirror"), locate.find("ct_trunk_unetpp")
    for refuse in (cost, lambda o, f: opened(f, o)):
        with pytest.raises(InputError, match="its training mirrored no image"):
            refuse(options, never)


def test_axes_that_training_mirrors(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()

    def axes(*steps: dict, dims: int = 3, **others: object) -> tuple[int, ...]:
        content = {"augment": [{"prob": 0.5, **step} for step in steps], **others}
        (tmp_path / "configs" / "train.json").write_text(json.dumps(content))
        return trained_axes(tmp_path, dims)

    flip, turn = {"_target_": "RandFlipd"}, {"_target_": "monai.transforms.RandRotate90d"}
    assert axes(flip | {"spatial_axis": 0}) == (0,)
    assert axes(flip | {"spatial_axis": [-1, 1]}) == (1, 2)
    assert axes(flip) == (0, 1, 2)
    assert axes(flip | {"spatial_axis": "@axis", "prob": "@often"}, axis=2, often=0.1) == (2,)
    assert axes(flip | {"spatial_axis": 0, "prob": 0.0}) == ()
    assert axes(flip | {"spatial_axis": "$0 + 1"}) == ()
    assert axes({"_target_": "RandAxisFlipd"}, dims=2) == (0, 1)
    assert axes(flip | {"spatial_axis": 0}, turn, dims=2) == (0, 1)
    assert axes(turn) == ()
    (tmp_path / "configs" / "train.json").unlink()
    assert trained_axes(tmp_path, 3) == ()


def test_an_ensemble_of_the_same_bundle_is_that_bundle(folder: Path, bundle) -> None:
    options = SegmentOptions(ensemble=(folder,), save_probabilities=True, save_uncertainty=True)
    both = Bundle(InProcess(2 * models(bundle)), options)
    found, alone = both.predict(crop(), options), bundle.predict(crop(), SegmentOptions())
    different = np.count_nonzero(found.mask.array != alone.mask.array)
    assert different <= 1e-3 * found.mask.array.size  # ties of probabilities in 16 bits
    assert found.uncertainty == pytest.approx(0, abs=1e-4)
    assert not (found.uncertainty_map.array > 5).any()
    assert len(list(found.probabilities())) == 3


def test_an_ensemble_averages_what_its_members_say(folder: Path) -> None:
    other = locate.find("hippocampus_unet3d")
    options = SegmentOptions(ensemble=(other,), save_probabilities=True, save_uncertainty=True)
    both = tiny(opened(folder, options))
    found = both.predict(crop(), options)
    alone = SegmentOptions(save_probabilities=True)
    each = [Bundle(InProcess((one,))).predict(crop(), alone) for one in models(both)]
    stacks = [np.stack([p.array for _, p in one.probabilities()]) for one in each]
    mean = np.mean(stacks, axis=0) * STEP
    ours = np.stack([p.array for _, p in found.probabilities()]) * STEP
    np.testing.assert_allclose(ours, mean, atol=2 * STEP)
    np.testing.assert_array_equal(found.mask.array, mean.argmax(axis=0))
    logits = [torch.from_numpy(stack * STEP).clamp_min(1e-12).log()[None] for stack in stacks]
    expected = head_disagreement(logits, "softmax")[0, 0].numpy()
    assert expected.max() > 0.01
    np.testing.assert_allclose(found.uncertainty_map.array * STEP, expected, atol=1e-3)


def test_an_ensemble_of_other_labels_is_refused_in_one_line(folder: Path) -> None:
    options = SegmentOptions(ensemble=(locate.find("ct_trunk_unetpp"),))
    for refuse in (cost, lambda o, f: opened(f, o)):
        with pytest.raises(InputError, match="1 anterior hippocampus") as error:
            refuse(options, folder)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="load the bundle with the options"):
        opened(folder).predict(crop(), options)


def test_a_gentle_attempt_says_so(bundle) -> None:
    found = bundle.predict(crop(), SegmentOptions(gentle=True))
    assert found.notes == ("computed in tiles of 48 × 32 × 48 voxels to save memory",)
    assert found.mask.shape == crop().shape


def test_a_bundle_that_does_more_goes_its_own_way_or_is_refused(bundle) -> None:
    steps = list(models(bundle)[0].postprocessing.transforms)
    more = Compose([*steps, Lambdad("pred", lambda mask: mask * 2)])
    info = replace(bundle.info, labels={2: "one", 4: "two"})
    own = changed(bundle, postprocessing=more, info=info)
    found = own.predict(crop())
    np.testing.assert_array_equal(found.mask.array, bundle.predict(crop()).mask.array * 2)
    assert found.uncertainty is None
    for options in (SegmentOptions(tta="mirror"), SegmentOptions(save_probabilities=True)):
        with pytest.raises(InputError, match="run it without"):
            own.predict(crop(), options)


def test_a_preprocessing_beyond_affines_goes_back_by_its_own_inverse(bundle) -> None:
    volume = crop()
    volume.array[:8] = 0
    (model,) = models(bundle)
    steps = list(model.preprocessing.transforms)
    place = next(k for k, step in enumerate(steps) if type(step).__name__ == "Spacingd")
    steps.insert(place, CropForegroundd("image", source_key="image", select_fn=lambda x: x > 0))
    preprocessing = Compose(steps)
    argmax = model.postprocessing.transforms[0]
    back = Invertd("pred", preprocessing, "image", nearest_interp=True, to_tensor=True)
    own = changed(bundle, preprocessing=preprocessing, postprocessing=Compose([argmax, back]))
    found = own.predict(volume, SegmentOptions(save_uncertainty=True))
    assert found.mask.shape == volume.shape
    assert not found.mask.array[:7].any()
    mask, spread = by_monai(own, volume)
    np.testing.assert_array_equal(found.mask.array, mask)
    np.testing.assert_allclose(found.uncertainty_map.array * STEP, spread, atol=1e-5)


def test_the_score_is_the_mean_over_the_mask_and_its_neighbours() -> None:
    mask = np.zeros((5, 6, 7), np.uint8)
    mask[2, 2, 2] = 1
    spread = np.zeros(mask.shape, np.uint16)
    spread[2, 2, 2] = 65535
    spread[3, 2, 2] = 13107  # a fifth
    spread[0, 0, 0] = 65535  # far away
    assert uncertainty_score(mask, spread) == pytest.approx(1.2 / 7)
    assert uncertainty_score(np.zeros_like(mask), spread) is None
    mask[:] = 2
    assert uncertainty_score(mask, spread) == pytest.approx(spread.mean() * STEP)


# --- options and their cost ----------------------------------------------------------------------


def test_the_cost_is_said_before(folder: Path) -> None:
    assert cost(SegmentOptions(), folder) == cost(SegmentOptions(level=2), folder)
    assert cost(SegmentOptions(), folder).sentence == ""
    mirrored = cost(SegmentOptions(tta="mirror"), folder)
    assert mirrored.passes == 2
    assert mirrored.sentence == "test-time mirroring: 2 passes per case, about 2 times the time"
    other = locate.find("hippocampus_unet3d")
    both = cost(SegmentOptions(tta="mirror", ensemble=(other,)), folder)
    assert both.passes == 4
    assert both.sentence.startswith("ensemble of 2 bundles with test-time mirroring: 4 passes")
    assert cost(SegmentOptions(tta="mirror"), locate.find("nuclei_unetpp")).passes == 4


def test_labels_that_name_sides_are_not_mirrored_from_left_to_right() -> None:
    for label in ("left kidney", "kidney_R", "Lunge links", "Kidney, Right"):
        assert names_sides([label]), label
    for label in ("L1", "bright ball", "leftover", "liver", "brainstem"):
        assert not names_sides([label]), label
    assert mirrored_axes((0, 1, 2), ["liver"], np.eye(4)) == (0, 1, 2)
    assert mirrored_axes((0, 1, 2), ["left kidney"], np.eye(4)) == (1, 2)
    turned = np.array([[0, 0, -2.0, 0], [1, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    assert mirrored_axes((0, 1, 2), ["left kidney"], turned) == (0, 1)
    assert mirrored_axes((0, 1), ["left kidney"], turned) == (0, 1)


def test_levels_as_people_type_them() -> None:
    assert [read_level(text) for text in ("L2", "l1", "3", "auto")] == [2, 1, 3, "auto"]
    for text in ("", "L0", "two", "L22"):
        with pytest.raises(InputError, match="give L1"):
            read_level(text)


def test_options_travel_to_workers_without_torch() -> None:
    options = SegmentOptions(tta="mirror", level=2, ensemble=(Path("b"),), gentle=True)
    assert pickle.loads(pickle.dumps(options)) == options  # noqa: S301
    assert json.loads(json.dumps(options.settings())) == {
        "tta": "mirror",
        "level": 2,
        "save_probabilities": False,
        "save_uncertainty": False,
        "precision": "fp32",
        "runtime": "auto",
    }
    code = (
        "import sys, nestseg.bundle.options, nestseg.bundle.passes; "
        "sys.exit('torch' in sys.modules or 'monai' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("spacing", [(0.9, 1.1, 1.3), (0.4, 0.45, 2.6)])
def test_logits_may_be_inverted_before_the_argmax(folder: Path, tmp_path: Path, spacing) -> None:
    """As MONAI's own bundles do it; voxel for voxel what its ``Invertd`` gives."""
    copy = tmp_path / "logits"
    shutil.copytree(folder, copy)
    path = copy / "configs" / "inference.json"
    config = json.loads(path.read_text())
    argmax, invert, *rest = config["postprocessing"]["transforms"]
    config["postprocessing"]["transforms"] = [invert | {"nearest_interp": False}, argmax, *rest]
    path.write_text(json.dumps(config))
    bundle = tiny(opened(copy))
    volume = crop(spacing)
    (model,) = models(bundle)
    assert model.inverse.of_logits
    data = model.preprocessing({"image": volume})
    with torch.no_grad():
        logits = model.inferer(data["image"][None], model.network)[0]
    expected = model.postprocessing({**data, "pred": logits})["pred"]
    found = bundle.predict(volume)
    assert found.notes == ()
    np.testing.assert_array_equal(found.mask.affine, volume.affine)
    differs = found.mask.array != np.asarray(expected[0]).astype(np.uint8)
    assert differs.mean() < 1e-4  # ties of rounding
    nearest = tiny(opened(folder)).predict(volume)
    assert (found.mask.array != nearest.mask.array).any()


IN_PLANE = {
    "resampled": {"_target_": "Spacingd", "keys": "@keys", "pixdim": [2.1, 1.7, -1]},
    "resized": {"_target_": "Resized", "keys": "@keys", "spatial_size": [16, 32, -1]},
}


def changed_copy(folder: Path, to: Path, in_plane: str, change: Callable[[list], list]) -> Path:
    """Copy a bundle that resamples within the slices and changes its postprocessing."""
    shutil.copytree(folder, to)
    path = to / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["load"][2] = IN_PLANE[in_plane]
    after = config["postprocessing"]
    after["transforms"] = change(after["transforms"])
    path.write_text(json.dumps(config))
    return to


@pytest.mark.parametrize("in_plane", IN_PLANE)
def test_labels_never_go_back_by_interpolation(folder: Path, tmp_path: Path, in_plane: str) -> None:
    def linear(steps: list) -> list:
        argmax, invert, *rest = steps
        return [argmax, invert | {"nearest_interp": False}, *rest]

    def several(steps: list) -> list:  # more than the fast way takes: the bundle's own steps run
        argmax, invert, *rest = linear(steps)
        kept = {"_target_": "KeepLargestConnectedComponentd", "keys": "pred"}
        return [argmax, kept, invert, *rest]

    def several_right(steps: list) -> list:
        argmax, kept, invert, *rest = several(steps)
        return [argmax, kept, invert | {"nearest_interp": True}, *rest]

    volume = crop()
    for number, (wrong, right) in enumerate([(linear, list), (several, several_right)]):
        copies = [
            tiny(opened(changed_copy(folder, tmp_path / f"b{number}{k}", in_plane, change)))
            for k, change in enumerate((wrong, right))
        ]
        found, expected = (one.predict(volume) for one in copies)
        assert expected.mask.array.max() == 2
        np.testing.assert_array_equal(found.mask.array, expected.mask.array)
        assert found.notes == (way_back.LABELS_BY_NEAREST,)
        assert expected.notes == ()


def test_logits_that_cannot_go_back_linearly_go_back_as_labels_by_the_nearest_voxel(
    folder: Path, tmp_path: Path
) -> None:
    def logits_first(steps: list) -> list:
        argmax, invert, *rest = steps
        return [invert | {"nearest_interp": False}, argmax, *rest]

    volume = crop()
    linear, nearest = (
        tiny(opened(changed_copy(folder, tmp_path / change.__name__, "resized", change)))
        for change in (logits_first, list)
    )
    found = linear.predict(volume)
    assert found.notes == ("labels went back to the image by the nearest voxel",)
    np.testing.assert_array_equal(found.mask.array, nearest.predict(volume).mask.array)


def test_a_mask_of_fractions_is_refused(folder: Path, tmp_path: Path) -> None:
    def own_argmax(steps: list) -> list:
        argmax = {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: x.argmax(0, True)"}
        as_float = {"_target_": "CastToTyped", "keys": "pred", "dtype": "$np.float32"}
        return [argmax, as_float, steps[1] | {"nearest_interp": False}, *steps[2:]]

    own = tiny(opened(changed_copy(folder, tmp_path / "own", "resampled", own_argmax)))
    with pytest.raises(InputError, match=r"not labels.*nearest_interp"):
        own.predict(crop())
