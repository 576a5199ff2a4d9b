"""The networks of nnU-Net; the contract runs in ``test_contract.py``."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nestseg.networks import NETWORKS, PlainConvUNet, ResidualEncoderUNet
from nestseg.networks.nnunet import ResidualBlock, without_aliases


@pytest.mark.parametrize(
    ("name", "dims", "count"),
    [
        # dynamic_network_architectures 0.4.4 with the same arguments
        ("nnunet_2021", 2, 46_324_558),
        ("nnunet_2021", 3, 31_195_594),
        ("nnunet_resenc_2024", 2, 140_017_038),
        ("nnunet_resenc_2024", 3, 102_349_770),
    ],
)
def test_the_networks_have_the_parameters_of_nnunets(name: str, dims: int, count: int) -> None:
    with torch.device("meta"):
        network = NETWORKS[name].build(dims)
    assert sum(weight.numel() for weight in network.parameters()) == count


@pytest.mark.parametrize("kind", [PlainConvUNet, ResidualEncoderUNet])
def test_each_axis_has_a_period_of_its_own(kind: type[nn.Module]) -> None:
    network = kind(3, 1, 2, (2, 3, 4), ((1, 1, 1), (1, 2, 2), (2, 2, 1))).eval()
    assert network.geometry.period == (2, 4, 2)
    assert network(torch.zeros(1, 1, 2, 8, 4)).shape == (1, 2, 2, 8, 4)
    with pytest.raises(ValueError, match="the nearest sizes that do: 2"):
        network(torch.zeros(1, 1, 1, 8, 4))


def test_a_residual_block_starts_as_its_skip() -> None:
    network = ResidualEncoderUNet(2, 1, 2, (2, 3), ((1, 1), (2, 2))).eval()
    block = network.encoder.stages[1].blocks[1]
    assert isinstance(block, ResidualBlock)
    x = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(block(x), nn.functional.leaky_relu(x, 0.01))


def test_a_state_dict_is_taken_with_every_name_that_nnunet_gives_a_tensor() -> None:
    network = PlainConvUNet(2, 1, 2, (2, 3), ((1, 1), (2, 2)))
    state = network.state_dict()
    first = "encoder.stages.0.0.convs.0"
    repeated = {
        f"{first}.all_modules.0.weight": state[f"{first}.conv.weight"],
        f"decoder.{first}.conv.weight": state[f"{first}.conv.weight"],
        f"decoder.{first}.all_modules.1.bias": state[f"{first}.norm.bias"],
    }
    assert without_aliases(state | repeated).keys() == state.keys()
    network.load_state_dict(state | repeated)
    wrong = {f"decoder.{first}.conv.weight": state[f"{first}.conv.weight"] + 1}
    with pytest.raises(ValueError, match="not the tensor that it repeats"):
        network.load_state_dict(state | wrong)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        network.load_state_dict(state | {"decoder.other": torch.zeros(1)})
