"""U²-Net of Qin et al. 2020: the contract, the paper's table, and odd sizes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from nestseg.networks import u2net_2020, u2net_lite_2020
from nestseg.networks.u2net import FULL, LITE, RSU, Stage, U2Net, resize_like

from . import contract
from .contract import Entry

TINY = {name: stage._replace(mid=2, out=3) for name, stage in FULL.items()}


def tiny_u2net(spatial_dims: int, in_channels: int, out_channels: int) -> U2Net:
    return U2Net(spatial_dims, in_channels, out_channels, TINY)


def entry(dims: int) -> Entry:
    config = {"spatial_dims": dims, "in_channels": 2, "out_channels": 2}
    return Entry(tiny_u2net, config, heads=7, exports=dims == 2)


@pytest.mark.parametrize("law", contract.LAWS, ids=lambda law: law.__name__)
def test_a_u2net_keeps_the_contract(law: Callable[[Entry], None]) -> None:
    law(entry(2))


# A hundred convolutions take long to script, and in 3D there is nothing new to find.
IN_3D = [law for law in contract.LAWS if law is not contract.its_script_computes_the_same]


@pytest.mark.parametrize("law", IN_3D, ids=lambda law: law.__name__)
def test_a_3d_u2net_keeps_the_contract(law: Callable[[Entry], None]) -> None:
    law(entry(3))


@pytest.mark.parametrize(
    ("count", "build"),
    [
        # The paper states sizes of files, 176.3 MB and 4.7 MB: see the next test.
        (44_009_869, u2net_2020),
        (1_131_181, u2net_lite_2020),
        (1_130_029, lambda: u2net_lite_2020(in_channels=1)),
        (3_372_973, lambda: u2net_lite_2020(spatial_dims=3, in_channels=1)),
    ],
)
def test_each_size_of_the_paper_has_its_number_of_parameters(
    count: int, build: Callable[[], nn.Module]
) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in build().parameters()) == count


def test_the_sizes_in_megabytes_are_those_of_the_paper() -> None:
    for stages, megabytes in ((FULL, 176.3), (LITE, 4.7)):
        with torch.device("meta"):
            tensors = U2Net(in_channels=3, stages=stages).state_dict().values()
        assert sum(t.numel() * t.element_size() for t in tensors) / 1e6 == pytest.approx(
            megabytes, rel=0.04
        )


@pytest.mark.parametrize("shape", [(1, 1), (33, 47), (64, 31), (5, 6, 7)], ids=str)
def test_all_seven_outputs_have_the_size_of_any_input(shape: tuple[int, ...]) -> None:
    network = tiny_u2net(len(shape), 1, 2)
    outputs = network(torch.randn(2, 1, *shape))
    assert [tuple(z.shape) for z in outputs] == [(2, 2, *shape)] * 7
    assert network.eval()(torch.randn(1, 1, *shape)).shape == (1, 2, *shape)


def test_every_head_is_there_in_eval_too_the_fused_one_first() -> None:
    network = tiny_u2net(2, 1, 2).eval()
    x = torch.randn(1, 1, 33, 47)
    heads = network.forward_heads(x)
    assert len(heads) == 7
    assert torch.equal(heads[0], network(x))


def test_the_first_output_fuses_the_others_from_fine_to_coarse() -> None:
    torch.manual_seed(0)
    network = tiny_u2net(2, 1, 2)
    sides: dict[str, Tensor] = {}
    for name, side in network.sides.items():
        side.register_forward_hook(lambda _m, _x, y, name=name: sides.update({name: y}))
    x = torch.randn(2, 1, 70, 70)
    fused, *others = network(x)
    torch.testing.assert_close(network.fuse(torch.cat(others, dim=1)), fused)
    assert [sides[f"de{k}"].shape[2] for k in range(1, 6)] == [70, 35, 18, 9, 5]
    assert sides["en6"].shape[2] == 3
    names = ["de1", "de2", "de3", "de4", "de5", "en6"]
    for name, other in zip(names, others, strict=True):
        torch.testing.assert_close(resize_like(sides[name], x), other)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("height", [4, 7])
def test_an_rsu_is_its_first_convolution_plus_a_u_net_of_its_height(dims: int, height: int) -> None:
    rsu = RSU(dims, 2, Stage(height, 2, 4)).eval()
    sizes: list[int] = []
    for layer in [rsu.first, *rsu.down, rsu.bottom, *rsu.up]:
        layer.register_forward_hook(lambda _m, _x, y: sizes.append(y.shape[2]))
    x = torch.randn(1, 2, *(21,) * dims)
    rsu(x)
    down = [21, 11, 6, 3, 2, 1][: height - 1]
    assert sizes == [21, *down, down[-1], *reversed(down)]
    nn.init.zeros_(rsu.up[-1][1].weight)  # what the U adds, ends in this norm
    nn.init.zeros_(rsu.up[-1][1].bias)
    assert torch.equal(rsu(x), rsu.first(x))


def test_the_flat_rsu_dilates_instead_of_pooling() -> None:
    rsu = RSU(2, 2, Stage(4, 2, 4, flat=True))
    convs = [m for m in rsu.modules() if isinstance(m, nn.Conv2d)]
    assert [m.dilation[0] for m in convs] == [1, 1, 2, 4, 8, 4, 2, 1]
    assert not any(isinstance(m, nn.MaxPool2d) for m in rsu.modules())
    bottom = RSU(2, 2, Stage(7, 2, 4)).bottom[0]
    assert bottom.dilation == (2, 2)


def test_the_stages_are_those_of_the_papers_table() -> None:
    assert [stage.height for stage in FULL.values()] == [7, 6, 5, 4, 4, 4, 4, 4, 5, 6, 7]
    assert {(stage.mid, stage.out) for stage in LITE.values()} == {(16, 64)}
    assert [name for name, stage in FULL.items() if stage.flat] == ["en5", "en6", "de5"]
