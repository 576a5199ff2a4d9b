"""ResFCN of Drozdzal et al. 2016: the contract, the paper's table, and what each skip is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from nestseg.networks import resfcn_2016
from nestseg.networks.resfcn import BLOCKS, LONG_SKIPS, ResFCN, ResidualBlock, Style

from . import contract
from .contract import Entry


def small(dims: int = 2, **more: Any) -> Entry:
    config = {
        "spatial_dims": dims,
        "in_channels": 2,
        "out_channels": 3,
        "features": 2,
        "depths": (1, 1, 1),
    }
    return Entry(ResFCN, config | more, exports=dims == 2 and not more)


ENTRIES = [
    small(),
    small(3, depths=(2, 1, 1)),
    small(main="basic", long_skips="concat", norm=None),
    small(main="simple", long_skips="none", short_skips=False, norm="instance"),
]


@pytest.mark.parametrize("law", contract.LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_a_resfcn_keeps_the_contract(law: Callable[[Entry], None], entry: Entry) -> None:
    law(entry)


@pytest.mark.parametrize(
    ("count", "config"),
    [
        # "11M" in the paper's table of the EM challenge (remembered); the digits are those of the
        # architecture as the co-author's public code has it.
        (11_042_273, {}),
        (11_451_745, {"long_skips": "sum_to_encoder"}),
        (12_018_849, {"long_skips": "concat"}),
        (11_567_393, {"long_skips": "none"}),
        (10_261_217, {"short_skips": False}),
        (10_180_097, {"short_skips": False, "long_skips": "none"}),
        (10_482_145, {"main": "basic", "long_skips": "sum_to_encoder"}),
        (5_104_801, {"main": "simple", "long_skips": "sum_to_encoder"}),
        (22_235_074, {"spatial_dims": 3, "out_channels": 2, "long_skips": "sum_to_encoder"}),
    ],
    ids=str,
)
def test_each_variant_of_the_paper_has_its_number_of_parameters(
    count: int, config: dict[str, Any]
) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in ResFCN(**config).parameters()) == count


def test_every_layer_has_the_size_and_width_of_the_papers_table() -> None:
    with torch.device("meta"):
        network = resfcn_2016().eval()
        seen: list[tuple[int, int]] = []
        layers = [network.first, *network.down, network.across, *network.up, network.head]
        for layer in layers:
            layer.register_forward_hook(lambda _m, _x, y: seen.append((y.shape[1], y.shape[2])))
        network(torch.empty(1, 1, 512, 512))
    assert seen == [
        (32, 512),
        (32, 256),
        (128, 128),
        (256, 64),
        (512, 32),
        (1024, 32),  # 16 inside
        (512, 64),
        (256, 128),
        (128, 256),
        (32, 512),
        (32, 512),
        (1, 512),
    ]
    blocks = [len(stage) for stage in [*network.down, network.across, *network.up][:9]]
    assert blocks == [1, 3, 8, 10, 3, 10, 8, 3, 1]


def test_the_blocks_across_work_at_the_sixteenth_of_the_table() -> None:
    with torch.device("meta"):
        network = resfcn_2016().eval()
        seen: list[int] = []
        for block in network.across:
            block.register_forward_hook(lambda _m, _x, y: seen.append(y.shape[2]))
        network(torch.empty(1, 1, 512, 512))
    assert seen == [16, 16, 32]


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("dims", [2, 3])
def test_a_block_whose_residual_is_zero_is_the_identity(kind: str, dims: int) -> None:
    width = 8
    f = width // 4 if kind == "bottleneck" else width
    block = ResidualBlock(dims, width, f, kind, Style(True, "batch", 0.0), down=False, up=False)
    for parameter in block.residual.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(1, width, *(6,) * dims)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("kind", BLOCKS)
def test_the_shortcut_drops_every_other_voxel_or_repeats_each(kind: str) -> None:
    width = 8
    f = width // 4 if kind == "bottleneck" else width
    x = torch.randn(1, width, 6, 4)
    for down, up, expected in [
        (True, False, x[..., ::2, ::2]),
        (False, True, x.repeat_interleave(2, 2).repeat_interleave(2, 3)),
    ]:
        block = ResidualBlock(2, width, f, kind, Style(True, None, 0.0), down=down, up=up)
        assert block.residual(x).shape == expected.shape
        for parameter in block.residual.parameters():
            torch.nn.init.zeros_(parameter)
        assert torch.equal(block(x), expected)


def test_without_short_skips_a_block_is_its_residual() -> None:
    block = ResidualBlock(2, 4, 4, "basic", Style(False, "batch", 0.0), down=True, up=False)
    x = torch.randn(2, 4, 8, 8)
    block.eval()
    assert torch.equal(block(x), block.residual(x))


def test_only_long_skips_carry_detail_past_the_centre() -> None:
    """With a dead centre the output still depends on the image, unless the long skips are out."""
    torch.manual_seed(0)
    for kind in LONG_SKIPS:
        network = ResFCN(features=2, depths=(1, 1, 1), long_skips=kind).eval()
        for parameter in network.across.parameters():
            torch.nn.init.zeros_(parameter)
        a, b = (network(torch.randn(1, 1, 8, 8)) for _ in range(2))
        assert torch.equal(a, b) == (kind == "none")


def test_dropout_acts_in_training_only() -> None:
    network = ResFCN(features=2, depths=(1, 1, 1), norm=None, dropout=0.5)
    x = torch.randn(1, 1, 8, 8)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


@pytest.mark.parametrize(
    "wrong", [{"main": "dense"}, {"long_skips": "product"}, {"depths": (1, 2)}], ids=str
)
def test_what_the_network_does_not_know_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(wrong.values()))).replace("(", r"\(")[:6]):
        ResFCN(**wrong)
