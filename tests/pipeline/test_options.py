"""Options that are given from Python are held to what their types say."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nestseg.batch.jobs import Limits, Settings
from nestseg.bundle.options import SegmentOptions
from nestseg.pruning.choice import Rule
from nestseg_prep.dicom.rules import Rules
from nestseg_prep.errors import InputError


def settings(**options: Any) -> Settings:
    return Settings(Path("bundle"), **options)


WRONG: list[tuple[Callable[..., object], str, tuple[Any, ...]]] = [
    (SegmentOptions, "tta", ("flip", None, True, "Mirror", ["mirror"])),
    (SegmentOptions, "level", (0, -1, 1.0, True, "L2", "2", math.nan)),
    (SegmentOptions, "ensemble", ("other", ["other"], (Path("one"), "other"), None)),
    (SegmentOptions, "save_probabilities", (1, "yes", None)),
    (SegmentOptions, "save_uncertainty", (0, "no", None)),
    (SegmentOptions, "gentle", ("", 1)),
    (SegmentOptions, "precision", ("fp16", "float32", None)),
    (SegmentOptions, "runtime", ("onnx", None, 3)),
    (Rules, "fill_missing", (1, "yes", None)),
    (Rules, "min_slices", (0, -3, 2.0, "3", True, None)),
    (Limits, "memory_mb", (0, -5, 1.5, "100", math.inf)),
    (Limits, "timeout_s", (-1, math.nan, math.inf, "10", True)),
    (settings, "device", ("gpu", "cuda:", "cuda:a", "cpu ", 0)),
    (settings, "dicom", ("binary", True)),
    (settings, "threads", (-1, 0.5, "2", None)),
    (Rule, "tolerance", (-0.1, math.nan, "0.01", True)),
    (Rule, "budget_ms", (-1, math.inf, [80])),
]


@pytest.mark.parametrize(("make", "name", "values"), WRONG, ids=[f"{w[1]}" for w in WRONG])
def test_a_wrong_value_is_one_line_that_names_the_option(
    make: Callable[..., object], name: str, values: tuple[Any, ...]
) -> None:
    for value in values:
        with pytest.raises(InputError, match=f"^{name} .*: give ") as caught:
            make(**{name: value})
        assert repr(value) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_right_values_stay_as_they_are() -> None:
    for options in (
        {"tta": "mirror", "level": 3, "ensemble": (Path("other"),), "gentle": True},
        {"level": "auto", "precision": "bf16", "runtime": "torch", "save_uncertainty": True},
    ):
        made = SegmentOptions(**options)  # type: ignore[arg-type]
        assert {name: getattr(made, name) for name in options} == options
    assert Rules(True, 1).min_slices == 1
    assert Limits(200, 0.5) == Limits(memory_mb=200, timeout_s=0.5)
    assert Rule(0, 80, 300.5).budgets == "80 ms and 300.5 MB"
    for device in (None, "cpu", "cuda", "cuda:0", "cuda:0,2"):
        assert settings(device=device).device == device


def test_precision_and_runtime_must_go_together() -> None:
    with pytest.raises(InputError, match="int8 is computed by openvino"):
        SegmentOptions(precision="int8", runtime="torch")
