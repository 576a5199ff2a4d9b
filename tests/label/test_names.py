"""Which class a label means, whoever numbered it."""

from __future__ import annotations

import numpy as np
import pytest

from nestseg.label.names import classes_for, names_in, renumbered, without_gaps
from nestseg_prep.volume import Volume

KNOWN = [{1: "Organ", 2: "Lesion"}]


def volume(*values: int) -> Volume:
    return Volume(np.array(values, np.uint8).reshape(-1, 1, 1), np.eye(4))


def test_a_lone_second_class_that_a_client_calls_1_is_2_again() -> None:
    labels, names = renumbered(volume(0, 1, 1), {1: "Lesion"}, KNOWN)
    assert labels.array.ravel().tolist() == [0, 2, 2]
    assert names == {1: "Organ", 2: "Lesion"}


def test_classes_that_change_places_do_not_swallow_each_other() -> None:
    labels, _ = renumbered(volume(0, 1, 2), {1: "lesion", 2: "organ"}, KNOWN)
    assert labels.array.ravel().tolist() == [0, 2, 1]


def test_what_nobody_knows_keeps_its_value() -> None:
    labels, names = renumbered(volume(0, 2, 5), {5: "cyst"}, KNOWN)
    assert labels.array.ravel().tolist() == [0, 2, 5]
    assert names[5] == "cyst"
    assert renumbered(volume(0, 7), {}, [])[1] == {7: "label 7"}


def test_an_empty_label_stays_empty() -> None:
    labels, names = renumbered(volume(0, 0), {1: "lesion"}, KNOWN)
    assert not labels.array.any()
    assert set(names) == {1, 2}


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (None, {}),
        ([{"name": "a"}, {"name": "b"}], {1: "a", 2: "b"}),
        ([{"name": "b", "idx": 2}], {2: "b"}),
        ([{"name": "b", "labelID": "3"}], {3: "b"}),
        ([{"name": "x", "idx": 0}, {"idx": 4}, {"name": "y", "idx": "z"}], {}),
    ],
)
def test_clients_say_names_in_several_ways(info: object, expected: dict[int, str]) -> None:
    assert names_in(info) == expected  # type: ignore[arg-type]


def test_names_say_which_bundle_is_meant() -> None:
    heart, hippocampus = {1: "heart"}, {1: "Anterior", 2: "posterior"}
    assert classes_for(["POSTERIOR"], [heart, hippocampus]) == hippocampus
    assert classes_for(["cyst"], [heart, hippocampus]) == {}
    assert classes_for([], [heart, hippocampus]) == {}
    assert classes_for([], [heart]) == heart
    assert classes_for(["x"], []) == {}


def test_segments_have_no_gaps() -> None:
    assert without_gaps({3: "c"}) == {1: "label 1", 2: "label 2", 3: "c"}
    assert without_gaps({}) == {}
