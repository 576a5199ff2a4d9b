"""Splits: by subject, the same everywhere, and read back from a datalist."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestseg_prep.cohort import cases
from nestseg_prep.errors import InputError
from nestseg_prep.split import split, subject


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sub-07_ses-2_T1w", "sub-07"),
        ("sub-07", "sub-07"),
        ("patient012_frame01", "patient012"),
        ("P3_left", "P3"),
        ("P3_R", "P3"),
        ("P3_visit_2", "P3"),
        ("hippocampus_001", "hippocampus_001"),
        ("case_00012", "case_00012"),
        ("liver", "liver"),
    ],
)
def test_a_subject_is_what_the_file_name_tells(name: str, expected: str) -> None:
    assert subject(name) == expected


@given(st.sets(st.integers(0, 999), min_size=3, max_size=60), st.integers(1, 3))
def test_every_case_is_in_one_split_and_no_subject_in_two(people: set[int], visits: int) -> None:
    names = [f"p{person}_visit{visit}" for person in people for visit in range(visits)]
    parts = split(names)
    assert sorted(name for part in parts.values() for name in part) == sorted(names)
    groups = [{subject(name) for name in part} for part in parts.values()]
    assert sum(map(len, groups)) == len(people)
    assert all(groups)
    assert split(reversed(names)) == parts


def test_two_subjects_cannot_be_split() -> None:
    with pytest.raises(InputError, match="2 subjects; at least three"):
        split(["a_left", "a_right", "b_left"])


@pytest.mark.parametrize("key", ["val", "validation"])
def test_a_datalist_is_read_from_its_own_folder(tmp_path: Path, key: str) -> None:
    (tmp_path / "i.nii").touch()
    (tmp_path / "l.nii").touch()
    absolute = str(tmp_path / "l.nii")
    path = tmp_path / "datalist.json"
    path.write_text(json.dumps({key: [{"image": "i.nii", "label": absolute}]}))
    assert cases(path, "val") == [{"image": str(tmp_path / "i.nii"), "label": absolute}]
    with pytest.raises(InputError, match="no list of cases for `train`"):
        cases(path, "train")
    path.write_text(json.dumps({key: [{"image": "gone.nii", "label": absolute}]}))
    with pytest.raises(InputError, match=r"gone.nii: named by datalist.json but not there"):
        cases(path, "val")
