"""Every layout of a labelled data set gives the same cases."""

import json
from pathlib import Path

import pytest

from nestseg_prep.cohort import cases, label_maps
from nestseg_prep.errors import InputError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize("ending", ["", ".png"])
def test_a_folder_with_an_index(tmp_path: Path, ending: str) -> None:
    touch(tmp_path / "images/a.png", tmp_path / "labels/a.png")
    (tmp_path / "index.json").write_text(json.dumps({"split": {"val": ["a" + ending]}}))
    images, labels = tmp_path / "images", tmp_path / "labels"
    assert cases(tmp_path, "val") == [
        {"image": str(images / "a.png"), "label": str(labels / "a.png")}
    ]


@pytest.mark.parametrize("name", ["val", "validation"])
def test_a_datalist_with_paths_relative_to_itself(tmp_path: Path, name: str) -> None:
    touch(tmp_path / "x/a.nii.gz", tmp_path / "y/a.nii.gz")
    datalist = tmp_path / "list.json"
    datalist.write_text(json.dumps({name: [{"image": "x/a.nii.gz", "label": "y/a.nii.gz"}]}))
    (case,) = cases(datalist, "val")
    assert case == {
        "image": str(tmp_path / "x/a.nii.gz"),
        "label": str(tmp_path / "y/a.nii.gz"),
    }


def test_the_layout_of_the_membrane_challenge(tmp_path: Path) -> None:
    for number in range(3):
        touch(*(tmp_path / "train" / kind / f"{number}.png" for kind in ("image", "label")))
    split = {"main": {"train": [0, 1], "val": [2]}}
    (tmp_path / "split.json").write_text(json.dumps(split))
    assert [Path(case["image"]).name for case in cases(tmp_path, "train")] == ["0.png", "1.png"]
    assert cases(tmp_path, "val")[0]["label"].endswith("train/label/2.png")


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"split": {"val": ["gone"]}}, "not there"),
        ({"split": {}}, "no list of cases"),
        ([], "no list of cases"),
        (None, "no data set"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, index: object, message: str) -> None:
    if index is not None:
        (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=message):
        cases(tmp_path, "val")


def test_the_real_data_sets(shared_data: Path) -> None:
    sizes = {
        "nuclei_dsb2018": (119, 29),
        "em_isbi2012": (25, 5),
        "volumes/hippocampus_msd04": (120, 20),
    }
    for name, expected in sizes.items():
        found = [cases(shared_data / name, split) for split in ("train", "val")]
        assert tuple(map(len, found)) == expected
        train, val = ({case["image"] for case in part} for part in found)
        assert not train & val


def test_label_maps_of_a_folder_and_of_a_labelled_data_set(tmp_path: Path) -> None:
    touch(tmp_path / "b.nii.gz", tmp_path / "a.nii", tmp_path / "notes.txt")
    assert label_maps(tmp_path) == [
        {"label": str(tmp_path / name)} for name in ("a.nii", "b.nii.gz")
    ]
    touch(tmp_path / "images/a.nii", tmp_path / "labels/a.nii")
    (tmp_path / "index.json").write_text(json.dumps({"split": {"train": ["a"]}}))
    assert label_maps(tmp_path) == [{"label": str(tmp_path / "labels/a.nii")}]


def test_a_folder_without_label_maps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no label maps"):
        label_maps(tmp_path)
