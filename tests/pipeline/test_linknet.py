"""LinkNet and D-LinkNet: the papers' counts, the skips, the dilated centre."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from nestseg.networks import DLinkNet, LinkNet, linknet_deepglobe_2018
from nestseg.networks.linknet import DilatedCentre


@pytest.mark.parametrize(
    ("count", "build"),
    [
        (11_533_377, LinkNet),
        (11_534_667, lambda: LinkNet(out_channels=11)),
        (11_535_699, lambda: LinkNet(out_channels=19)),
        (11_535_957, lambda: LinkNet(out_channels=21)),
        (11_535_699, lambda: LinkNet(out_channels=19, bypass=False)),
        (33_964_226, lambda: LinkNet(3, 1, 2)),
        (20_987_969, lambda: DLinkNet(encoder="resnet18")),
        (31_096_129, DLinkNet),
        (217_645_089, lambda: DLinkNet(encoder="resnet50")),
        (236_637_217, lambda: DLinkNet(encoder="resnet101")),
        (92_665_314, lambda: DLinkNet(3, 1, 2)),
        (21_642_401, linknet_deepglobe_2018),
    ],
)
def test_a_network_has_as_many_parameters_as_its_code(
    count: int, build: Callable[[], nn.Module]
) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in build().parameters()) == count


@pytest.mark.parametrize("dims", [2, 3])
def test_the_unpadded_head_of_the_baseline_just_fits(dims: int) -> None:
    network = linknet_deepglobe_2018(dims, 1, width=4).eval()
    shape = (64, 32, 96)[:dims]
    assert network(torch.randn(1, 1, *shape)).shape == (1, 1, *shape)


def test_without_bypass_the_weights_are_the_same_and_the_skips_are_gone() -> None:
    torch.manual_seed(0)
    linked, bare = LinkNet(width=4).eval(), LinkNet(width=4, bypass=False).eval()
    bare.load_state_dict(linked.state_dict())
    x = torch.randn(1, 3, 64, 64)
    assert not torch.equal(linked(x), bare(x))
    for network, wanted in ((linked, True), (bare, False)):
        nn.init.zeros_(network.decoder4[-2].weight)  # cuts the path through the centre
        nn.init.zeros_(network.decoder4[-2].bias)
        assert (network(x).std() > 0) or not wanted
        assert torch.equal(network(x), network(x + 1)) != wanted


@pytest.mark.parametrize(
    ("dims", "dilations", "field"),
    [(2, (1, 2, 4, 8), 31), (3, (1, 2), 7), (2, (1, 2, 4, 8, 16), 63)],
)
def test_the_centre_sees_as_far_as_its_dilations_add_up(
    dims: int, dilations: tuple[int, ...], field: int
) -> None:
    centre = DilatedCentre(dims, 1, dilations)
    for parameter in centre.parameters():
        nn.init.constant_(parameter, 0.1)
    size = field + 4
    x = torch.zeros(1, 1, *(size,) * dims, requires_grad=True)
    centre(x)[0, 0][(size // 2,) * dims].backward()
    assert x.grad is not None
    seen = x.grad[0, 0].nonzero()
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [field] * dims


def test_the_centre_of_34_layers_has_four_dilations_and_that_of_50_has_five() -> None:
    with torch.device("meta"):
        assert len(DLinkNet(encoder="resnet34").centre.steps) == 4
        assert len(DLinkNet(encoder="resnet50").centre.steps) == 5


def test_a_height_of_360_is_refused_and_its_neighbours_are_named() -> None:
    """The LinkNet paper quotes its cost at 640×360, which no stack of five halvings undoes."""
    with torch.device("meta"), pytest.raises(ValueError, match="do: 352 and 384"):
        LinkNet()(torch.empty(1, 3, 640, 360))
