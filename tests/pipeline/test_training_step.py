"""What makes a training step faster changes rounding alone, and no name or shape of a weight."""

import pytest
import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss
from torch import Tensor

from nestseg.networks import GridUNet

STEPS = 4


def trained(norm: str, layout: torch.memory_format, *, fused: bool) -> dict[str, Tensor]:
    """Weights after a few steps in float64, where rounding is far below all that is learned."""
    torch.manual_seed(0)
    network = GridUNet(2, 1, 2, (4, 8, 8), "unet++", norm=norm, act="leakyrelu", bias=False)
    network = network.double().to(memory_format=layout)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=1e-4, fused=fused)
    dice = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False, batch=True)
    loss = DeepSupervisionLoss(dice, weights=[1.0, 1.0])
    for _ in range(STEPS):
        image = torch.randn(2, 1, 16, 16, dtype=torch.float64)
        optimizer.zero_grad()
        loss(network(image), (image > 0.5).double()).backward()
        optimizer.step()
    return dict(network.state_dict())


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_layout_and_fused_optimizer_change_rounding_alone(norm: str) -> None:
    stock = trained(norm, torch.contiguous_format, fused=False)
    fast = trained(norm, torch.channels_last, fused=True)
    assert stock.keys() == fast.keys()
    for name, weight in stock.items():
        assert fast[name].shape == weight.shape
        torch.testing.assert_close(fast[name], weight, rtol=1e-7, atol=1e-9)
