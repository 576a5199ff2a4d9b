"""Prepared training sets: what is kept, what is made again, and that samples stay the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Compose, Lambdad, RandFlipd, ScaleIntensityd
from monai.utils import set_determinism

from nestseg_prep.errors import InputError
from nestseg_prep.geometry import Geometry, GridAxis
from nestseg_prep.nifti import write_nifti
from nestseg_prep.prepared import InputDigests, find_case, read_record, read_sample
from nestseg_prep.transforms import (
    BalancedPatchesd,
    GridPatchesd,
    LoadVolumed,
    TrainingSet,
    prepare_training_set,
)
from nestseg_prep.transforms.samples import settings
from nestseg_prep.volume import Volume

VALID = Geometry((GridAxis((2,), (4, 4), (4,)).geometry(),) * 2)  # margin 16
KEYS = ["image", "label"]


def pipeline(top: float = 1.0) -> Compose:
    return Compose(
        [
            LoadVolumed(KEYS),
            ScaleIntensityd("image", minv=0.0, maxv=top),
            RandFlipd(KEYS, prob=0.5, spatial_axis=1),
        ]
    )


@pytest.fixture
def cases(tmp_path: Path) -> list[dict[str, str]]:
    """Three small volumes with labels, each of its own shape."""
    made = []
    for number in range(3):
        rng = np.random.default_rng(number)
        affine = np.diag([1.0, 2.0, 3.0, 1.0])
        affine[:3, 3] = number
        case = {}
        for key, array in (
            ("image", rng.normal(100, 9, (6, 5 + number, 4)).astype(np.float32)),
            ("label", rng.integers(0, 3, (6, 5 + number, 4)).astype(np.uint8)),
        ):
            path = tmp_path / "data" / key / f"{number}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_nifti(Volume(array, affine), path)
            case[key] = str(path)
        made.append(case)
    return made


def states(cases: list[dict[str, str]], transform: Compose, out: Path) -> list[str]:
    return [outcome.state for outcome in prepare_training_set(cases, transform, out)]


def assert_same_samples(one: Any, other: Any) -> None:
    assert one.keys() == other.keys()
    for key in one:
        assert type(one[key]) is type(other[key])
        if not isinstance(one[key], torch.Tensor):
            assert one[key] == other[key]
            continue
        assert one[key].dtype == other[key].dtype
        assert torch.equal(torch.as_tensor(one[key]), torch.as_tensor(other[key]))
        if isinstance(one[key], MetaTensor):
            assert torch.equal(one[key].affine, other[key].affine)
            assert one[key].affine.dtype == other[key].affine.dtype
            assert one[key].meta["filename_or_obj"] == other[key].meta["filename_or_obj"] != ""


def test_samples_from_files_are_those_made_in_memory(
    cases: list[dict[str, str]], tmp_path: Path
) -> None:
    prepare_training_set(cases, pipeline(), tmp_path / "out")
    sets = []
    for prepared_dir in (None, tmp_path / "out"):
        set_determinism(seed=3)
        sets.append(TrainingSet(cases, pipeline(), prepared_dir))
    flipped = 0
    for _ in range(4):
        for in_memory, from_file in zip(*sets, strict=True):
            assert_same_samples(in_memory, from_file)
            flipped += in_memory["image"].applied_operations[-1]["do_transforms"]
    set_determinism(seed=None)
    assert 0 < flipped < 12


def test_a_sample_keeps_its_place_in_the_patient(
    cases: list[dict[str, str]], tmp_path: Path
) -> None:
    prepare_training_set(cases, pipeline(), tmp_path / "out")
    transform = Compose(pipeline().transforms[:2])
    sample = TrainingSet(cases, transform, tmp_path / "out")[2]
    expected = transform(cases[2])
    np.testing.assert_array_equal(sample["image"].affine, expected["image"].affine)
    np.testing.assert_array_equal(
        sample["image"].meta["original_affine"], expected["image"].meta["original_affine"]
    )
    assert sample["image"].meta["filename_or_obj"] == cases[2]["image"]


def test_a_second_run_makes_only_what_is_missing_or_stale(
    cases: list[dict[str, str]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert states(cases, pipeline(), out) == ["written"] * 3
    assert states(cases, pipeline(), out) == ["kept"] * 3
    digests = [case["digest"] for case in read_record(out)["cases"]]
    (out / f"{digests[0]}.label.npy").unlink()
    truncated = out / f"{digests[2]}.image.npy"
    truncated.write_bytes(truncated.read_bytes()[:-4])
    assert states(cases, pipeline(), out) == ["written", "kept", "written"]
    write_nifti(Volume(np.zeros((6, 6, 4), np.uint8), np.eye(4)), Path(cases[1]["label"]))
    assert states(cases, pipeline(), out) == ["kept", "written", "kept"]
    assert not list(out.glob(f"*{digests[1]}*")), "files of the replaced case are left"
    assert states(cases, pipeline(top=2.0), out) == ["written"] * 3
    assert len(list(out.glob("*.npy"))) == 6


def test_an_interrupted_run_goes_on_where_it_stopped(
    cases: list[dict[str, str]], tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def interrupt(outcome: Any) -> None:
        if outcome.number == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_training_set(cases, pipeline(), out, on_case=interrupt)
    with pytest.raises(InputError, match="no prepared training set"):
        TrainingSet(cases, pipeline(), out)
    assert states(cases, pipeline(), out) == ["kept", "kept", "written"]


def test_files_of_a_killed_run_are_swept_and_others_are_left(
    cases: list[dict[str, str]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    half = out / f".{'0' * 32}.image.npy.77.partial"
    mine = out / "notes.json"
    for path in (half, mine):
        path.write_text("{}")
    prepare_training_set(cases, pipeline(), out)
    assert not half.exists()
    assert mine.exists()


def test_a_bad_case_stops_no_other_and_is_listed(
    cases: list[dict[str, str]], tmp_path: Path
) -> None:
    Path(cases[1]["image"]).write_bytes(b"\x1f\x8b no gzip")
    assert states(cases, pipeline(), tmp_path / "out") == ["written", "failed", "written"]
    entries = read_record(tmp_path / "out")["cases"]
    assert [entry["state"] for entry in entries] == ["written", "failed", "written"]
    assert entries[1]["error"].startswith("1.nii.gz: ")
    with pytest.raises(InputError, match=r"case 1 is new, changed or damaged .* again$"):
        TrainingSet(cases, pipeline(), tmp_path / "out")


def other_setting(cases: list[dict[str, str]]) -> Compose:
    return pipeline(top=2.0)


def other_input(cases: list[dict[str, str]]) -> Compose:
    shape = (6, 5, 4)
    write_nifti(Volume(np.full(shape, 7, np.float32), np.eye(4)), Path(cases[0]["image"]))
    return pipeline()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_setting, r"prepared by other settings \(transforms#1#scaler#maxv\)"),
        (other_input, "case 0 is new, changed or damaged"),
    ],
)
def test_a_set_made_of_something_else_is_refused(
    change: Callable[[list[dict[str, str]]], Compose],
    words: str,
    cases: list[dict[str, str]],
    tmp_path: Path,
) -> None:
    prepare_training_set(cases, pipeline(), tmp_path / "out")
    transform = change(cases)
    with pytest.raises(InputError, match=words) as refused:
        TrainingSet(cases, transform, tmp_path / "out")
    assert "\n" not in str(refused.value)


def test_what_is_random_may_change(cases: list[dict[str, str]], tmp_path: Path) -> None:
    prepare_training_set(cases, pipeline(), tmp_path / "out")
    calm = Compose([*pipeline().transforms[:2], RandFlipd(KEYS, prob=0.0)])
    assert len(TrainingSet(cases, calm, tmp_path / "out")) == 3


def test_the_record_holds_no_path(cases: list[dict[str, str]], tmp_path: Path) -> None:
    prepare_training_set(cases, pipeline(), tmp_path / "out")
    for path in (tmp_path / "out").glob("*.json"):
        assert str(tmp_path) not in path.read_text()
        assert "nii" not in path.read_text()


def test_a_moved_data_set_is_known_by_its_content(
    cases: list[dict[str, str]], tmp_path: Path
) -> None:
    prepare_training_set(cases, pipeline(), tmp_path / "out")
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    moved = [
        {key: path.replace("/data/", "/elsewhere/") for key, path in case.items()} for case in cases
    ]
    sample = TrainingSet(moved, pipeline(), tmp_path / "out")[0]
    assert sample["image"].meta["filename_or_obj"] == moved[0]["image"]


def test_running_a_transform_does_not_change_its_description(cases: list[dict[str, str]]) -> None:
    transform = pipeline()
    before = json.dumps(settings(transform))
    transform(cases[0])
    assert json.dumps(settings(transform)) == before


def test_functions_are_told_apart_by_what_they_do() -> None:
    def described(function: Any) -> str:
        return json.dumps(settings(Compose([Lambdad("image", function)])))

    def plus(n: float) -> Callable[[float], float]:
        return lambda x: x + n

    assert described(plus(1)) == described(plus(1))
    assert len({described(plus(1)), described(plus(2)), described(lambda x: x - 1)}) == 3


def test_a_transform_that_hides_what_it_does_is_refused(tmp_path: Path) -> None:
    hidden = ScaleIntensityd("image")
    hidden.secret = iter([1])
    with pytest.raises(InputError, match="list_iterator says nothing about its value"):
        prepare_training_set([], Compose([hidden]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_of_the_same_size_and_time_is_not_read_twice(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"one")
    first = InputDigests()
    digest = first.of(path)
    assert (
        InputDigests(dict.fromkeys(first.known, (next(iter(first.known.values()))[0], "x"))).of(
            path
        )
        == "x"
    )
    path.write_bytes(b"other")
    assert InputDigests(first.known).of(path) != digest


def test_a_folder_changes_with_any_file_in_it(tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    seen = set()
    for name, content in (("a", b"1"), ("b", b"1"), ("b", b"22")):
        (tmp_path / "series" / name).write_bytes(content)
        seen.add(InputDigests().of(tmp_path / "series"))
    assert len(seen) == 3


def indexed(shape: tuple[int, int]) -> dict[str, Any]:
    """An image that says where each pixel lies in it, and a label of two classes."""
    image = np.stack(np.indices(shape)).astype(np.float32)
    label = (image.sum(axis=0, keepdims=True) % 7 == 0).astype(np.float32)
    return {
        "image": MetaTensor(torch.from_numpy(image)),
        "label": MetaTensor(torch.from_numpy(label)),
    }


shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))
sizes = st.tuples(st.integers(4, 20), st.integers(4, 20))
unhurried = hypothesis_settings(deadline=None, max_examples=40)


@unhurried
@given(shape=shapes, size=sizes)
def test_targets_of_a_grid_hold_every_pixel_once(
    shape: tuple[int, int], size: tuple[int, int]
) -> None:
    data = indexed(shape)
    samples = GridPatchesd("image", "label", VALID, size)(data)
    out = VALID.output_size(VALID.input_size(size))
    stitched = np.full(shape, np.nan)
    for sample in samples:
        assert sample["label"].shape[1:] == out
        first = sample["label"].affine[:2, 3].long().tolist()
        place = tuple(slice(a, a + n) for a, n in zip(first, out, strict=True))
        inside = stitched[place]
        assert np.isnan(inside).all()
        inside[...] = sample["label"][0, : inside.shape[0], : inside.shape[1]]
    np.testing.assert_array_equal(stitched, data["label"][0])


@unhurried
@given(shape=shapes, size=sizes, seed=st.integers(0, 9))
def test_the_centre_of_an_image_patch_is_the_region_of_its_target(
    shape: tuple[int, int], size: tuple[int, int], seed: int
) -> None:
    data = indexed(shape)
    samples = GridPatchesd("image", "label", VALID, size)(data)
    samples += BalancedPatchesd("image", "label", VALID, size, number=3, seed=seed)(data)
    label = data["label"][0].numpy()
    for sample in samples:
        assert sample["image"].shape[1:] == VALID.input_size(size)
        rows, columns = sample["image"][:, 8:-8, 8:-8].long().numpy()
        np.testing.assert_array_equal(label[rows, columns], sample["label"][0])


def test_balanced_patches_are_the_same_each_time() -> None:
    data = indexed((30, 26))
    cutter = BalancedPatchesd("image", "label", VALID, [1, 1], number=12)
    first, second = cutter(data), cutter(data)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one["image"], other["image"])
    other = BalancedPatchesd("image", "label", VALID, [1, 1], number=12, seed=1)(data)
    assert any(not torch.equal(a["image"], b["image"]) for a, b in zip(first, other, strict=True))


def test_each_patch_is_a_sample_and_is_read_alone(
    cases: list[dict[str, str]], tmp_path: Path
) -> None:
    geometry = Geometry((*VALID.axes, VALID.axes[0]))
    transform = Compose(
        [LoadVolumed(KEYS), GridPatchesd("image", "label", geometry, [4, 4, 4])],
    )
    [stored] = [o.stored for o in prepare_training_set(cases[:1], transform, tmp_path / "out")]
    assert stored is not None
    assert len(TrainingSet(cases[:1], transform, tmp_path / "out")) == len(stored.notes) == 4
    whole = np.load(tmp_path / "out" / stored.arrays["image"].file)
    for index in range(4):
        sample = read_sample(tmp_path / "out", stored, index)
        assert sample["image"].base is None  # a copy: the file is not held open
        np.testing.assert_array_equal(sample["image"], whole[index])
        mapped = read_sample(tmp_path / "out", stored, index, mapped=True)["image"]
        assert isinstance(mapped, np.memmap)
        mapped += 1
        np.testing.assert_array_equal(mapped, whole[index] + 1)
    np.testing.assert_array_equal(np.load(tmp_path / "out" / stored.arrays["image"].file), whole)
    assert sum(stored.classes.values()) == 4 * 4**3
    found = find_case(tmp_path / "out", stored.digest)
    assert found is not None
    assert found.arrays == stored.arrays
