"""A 2D network over a volume gives what it gives slice by slice."""

import pytest
import torch

from nestseg.inferers import OverlapTileInferer, SlicewiseInferer
from nestseg.networks import GridUNet


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("slices", [1, 3])
def test_each_slice_is_segmented_by_itself(padding: str, slices: int) -> None:
    torch.manual_seed(0)
    network = GridUNet(2, 1, 3, (4, 8, 16), padding=padding).double().eval()
    volume = torch.randn(2, 1, 37, 50, slices, dtype=torch.double)
    inner = OverlapTileInferer((60, 60))
    with torch.no_grad():
        logits = SlicewiseInferer(inner)(volume, network)
        assert logits.shape == (2, 3, 37, 50, slices)
        for k in range(slices):
            assert torch.equal(logits[..., k], inner(volume[..., k], network))
