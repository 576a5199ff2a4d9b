"""Medians, ratios and judgements of interleaved runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.peers.figures import compared, failed, is_right, medians, ratios, wrong

seconds = st.floats(0.01, 1000)


def test_medians_are_of_the_figures_that_all_runs_have() -> None:
    assert medians([{"s": 3, "gb": 1}, {"s": 1, "gb": 2}, {"s": 2}]) == {"s": 2}
    assert medians([]) == {}


def test_ratios_are_taken_round_by_round() -> None:
    """The second round was slow for both: a ratio of medians would be 20 / 4."""
    ours, theirs = [{"s": 1}, {"s": 10}, {"s": 4}], [{"s": 6}, {"s": 60}, {"s": 20}]
    assert ratios(ours, theirs) == {"s": 6}


@given(st.lists(seconds, min_size=1, max_size=7), st.floats(0.1, 50))
def test_a_constant_ratio_is_found_whatever_the_machine_does(noise: list[float], k: float) -> None:
    ours, theirs = [{"s": s} for s in noise], [{"s": s * k} for s in noise]
    assert ratios(ours, theirs)["s"] == pytest.approx(k)


def test_rounds_must_be_the_same() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratios([{"s": 1}], [{"s": 1}, {"s": 2}])


def test_a_way_that_did_not_run_has_no_ratio() -> None:
    assert compared({"runs": []}, {"runs": [{"s": 1}]}) == {}
    assert compared({"runs": [{"s": 1}]}, {"runs": []}) == {}


@pytest.mark.parametrize(
    ("dice", "ours", "theirs", "right"),
    [
        (0.996, 0.90, 0.99, True),  # the peer's own mask, nearly
        (0.98, 0.96, 0.95, True),  # another mask, and a better one
        (0.98, 0.949, 0.95, True),
        (0.98, 0.947, 0.95, False),
        (0.98, None, None, False),  # nobody knows the truth: only agreement counts
    ],
)
def test_who_is_right(dice: float, ours: float | None, theirs: float | None, right: bool) -> None:
    assert is_right(dice, ours, theirs) is right


def test_a_wrong_mask_and_a_missing_way_are_named() -> None:
    judged = {"dice": 0.9, "truth": 0.8, "truth_peer": 0.95, "right": False}
    row = {"name": "ours", "kind": "ours", "reason": "", "required": True}
    assert wrong([row | {"agreement": {"MONAI": judged}}]) == [
        "ours: Dice 0.9000 with MONAI; with the truth 0.8000 against 0.9500"
    ]
    assert wrong([row | {"agreement": {"MONAI": judged | {"right": True}}}]) == []
    missing = row | {"reason": "not available: no openvino"}
    assert failed([row, missing]) == ["ours: not available: no openvino"]
    assert failed([missing | {"required": False}]) == []
    assert failed([missing | {"required": False, "kind": "peer"}]) != []
