"""Trained weights on real images: the masks of every way, against those of plain float32."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nestseg.bundle import locate, maps
from nestseg.bundle.model import Model
from nestseg.bundle.options import SegmentOptions
from nestseg.inferers import Answers
from nestseg.pruning.validation import read_image
from nestseg.runtime import machine
from nestseg_prep.cohort import cases
from tests.opened import models, opened

DICE = 0.995
"""Least Dice of a label against that of float32."""

openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)
bf16 = pytest.mark.skipif(
    not machine.has_bf16(torch.device("cpu")), reason="this CPU has no units for bfloat16"
)
WAYS = [
    ("fp32", "torch"),
    pytest.param("fp32", "openvino", marks=openvino),
    pytest.param("bf16", "torch", marks=bf16),
    pytest.param("bf16", "openvino", marks=[bf16, openvino]),
]


def dice(mask: np.ndarray, other: np.ndarray, value: int) -> float:
    a, b = mask == value, other == value
    return 2 * float((a & b).sum()) / max(int(a.sum() + b.sum()), 1)


def prepared(model: Model, path: str) -> Any:
    return model.preprocessing({"image": read_image(path)})["image"]


@pytest.fixture(scope="module", params=["hippocampus_unetpp", "nuclei_unetpp"])
def trained(request, shared_data: Path) -> tuple[Model, Any, maps.Maps]:
    """A bundle, a validation image as its network sees it, and what plain float32 makes of it."""
    (model,) = models(opened(locate.find(request.param)))
    place = {"hippocampus_unetpp": "volumes/hippocampus_msd04", "nuclei_unetpp": "nuclei_dsb2018"}
    image = prepared(model, cases(shared_data / place[request.param], "val")[0]["image"])
    plain = Answers(model.network)
    return model, image, maps.compute(image, plain, model.inferer, keep_probabilities=False)


@pytest.mark.parametrize(("precision", "runtime"), WAYS)
def test_masks_agree_with_plain_float32(trained, precision, runtime) -> None:
    model, image, expected = trained
    fast = model.answering(SegmentOptions(precision=precision, runtime=runtime))
    found = maps.compute(image, Answers(fast), model.inferer, keep_probabilities=False)
    assert fast.graphs.way == f"{runtime} {precision}"
    for value in model.info.labels:
        assert (expected.labels == value).sum() > 100
        assert dice(found.labels, expected.labels, value) >= (1 if precision == "fp32" else DICE)
    if expected.disagreement is not None:
        difference = found.disagreement.astype(int) - expected.disagreement
        assert np.abs(difference).mean() < 65535 * (1e-5 if precision == "fp32" else 5e-3)


def test_tiles_are_chosen_by_arithmetic_for_a_fast_network_as_well() -> None:
    (model,) = models(opened(locate.find("em_unet")))
    plain = model.network
    answers = Answers(model.answering(SegmentOptions()))
    shape = (512, 512)
    chosen = model.inferer.tiling(answers, shape)
    assert chosen == model.inferer.tiling(plain, shape)
    assert chosen.roi_size != model.inferer.roi_size
