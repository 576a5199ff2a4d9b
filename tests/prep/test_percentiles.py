"""Percentiles by one partition against those of MONAI, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Compose, ScaleIntensityRangePercentilesd
from monai.transforms.utils_pytorch_numpy_unification import percentile

from nestseg_prep.transforms.percentiles import (
    QuickPercentiles,
    percentiles,
    quick_percentiles,
)

PERCENT = st.one_of(st.sampled_from([0.0, 0.5, 99.5, 100.0]), st.floats(0, 100))


@settings(deadline=None)
@given(st.integers(1, 5000), PERCENT, PERCENT, st.integers(0, 99), st.booleans())
def test_they_are_those_of_monai(number, low, high, seed, few) -> None:
    random = torch.Generator().manual_seed(seed)
    values = torch.randn(number, generator=random) * 300
    values = values.round() if few else values  # many that are equal
    found = percentiles(values, (low, high))
    assert torch.equal(
        torch.stack(found), torch.stack([percentile(values, q) for q in (low, high)])
    )


@pytest.mark.parametrize("number", [999_999, 1_000_001])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_they_are_those_of_monai_for_large_images(number: int, dtype: torch.dtype) -> None:
    values = torch.randn(number, generator=torch.Generator().manual_seed(0), dtype=dtype)
    for found, wanted in zip(percentiles(values, (0.5, 99.5)), (0.5, 99.5), strict=True):
        assert torch.equal(found, percentile(values, wanted))
        assert found.dtype == dtype


def test_what_is_no_number_leaves_no_percentile() -> None:
    values = torch.tensor([1.0, np.nan, 3.0, 2.0])
    assert percentile(values, 50).isnan()
    assert all(one.isnan() for one in percentiles(values, (0, 50)))


@pytest.mark.parametrize("how", [{}, {"relative": True}, {"channel_wise": True}, {"clip": True}])
def test_a_preprocessing_gives_the_same(how: dict[str, bool]) -> None:
    def build() -> Compose:
        return Compose([ScaleIntensityRangePercentilesd("image", 0.5, 99.5, 0.0, 1.0, **how)])

    quick = build()
    quick_percentiles(quick)
    assert isinstance(quick.transforms[0].scaler, QuickPercentiles)
    values = torch.randn(2, 50, 40, 3, generator=torch.Generator().manual_seed(0))
    image = MetaTensor(values, affine=torch.diag(torch.tensor([-2.0, 3.0, 1.0, 1.0])))
    image.applied_operations = [{"class": "Flip"}]
    ours, theirs = quick({"image": image})["image"], build()({"image": image})["image"]
    assert torch.equal(ours.as_tensor(), theirs.as_tensor())
    assert torch.equal(ours.affine, theirs.affine)
    assert torch.equal(ours.affine, image.affine)
    assert ours.applied_operations == theirs.applied_operations == image.applied_operations
