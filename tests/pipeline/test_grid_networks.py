"""U-Net, U-Net^e, UNet+ and UNet++: the contract, the papers' numbers, pruning, dead nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nestseg.networks import (
    TOPOLOGIES,
    GridUNet,
    unet3d_2016,
    unet_2015,
    unet_deepglobe_2018,
    unet_e_2020,
    unet_keras,
    unet_l,
    unet_plus_2020,
    unetpp_2018,
    wide_unet_2018,
)
from nestseg.networks.blocks import center_crop
from nestseg_prep.geometry import GridAxis

from . import contract
from .contract import Entry


def small(topology: str, dims: int, padding: str, **more: Any) -> Entry:
    config = {
        "spatial_dims": dims,
        "in_channels": 2,
        "out_channels": 3,
        "features": (2, 3, 4),
        "topology": topology,
        "padding": padding,
    }
    exports = (topology == "unet++" and dims == 2) or (topology == "unet" and dims == 3)
    return Entry(
        GridUNet,
        config | more,
        heads=1 if topology == "unet" else 2,
        exports=exports,
        idle=frozenset({"x_0_1"} if topology == "unet_e" else ()),
        reach=24 if padding == "same" and not more else None,
    )


ENTRIES = [
    small(topology, dims, padding)
    for topology in TOPOLOGIES
    for dims in (2, 3)
    for padding in ("same", "valid")
]
ENTRIES += [
    small("unet++", 2, "same", norm="batch", dropout=0.0),
    small("unet++", 3, "same", norm="instance", act="leakyrelu", bias=False),
    small("unet", 3, "valid", norm="batch", mid_features=(1, 2, 3), up_channels=(3, 4)),
    small("unet++", 3, "same", pools=((2, 2, 1), (2, 2, 2))),
    small("unet++", 2, "same", pools=((2, 1), (2, 1)), up_kernel_size=4),
    small("unet", 3, "valid", pools=((1, 2, 2), (2, 2, 1))),
]


def unet3d_with_up_bias() -> GridUNet:
    """The 3D U-Net as one would build it today: affine norms, a bias everywhere."""
    config = unet3d_2016(affine=True).config
    return GridUNet(**(config | {"up_bias": True}))


@pytest.mark.parametrize("law", contract.LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_a_grid_network_keeps_the_contract(law: Callable[[Entry], None], entry: Entry) -> None:
    law(entry)


# --- parameter counts -------------------------------------------------------------------------


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


HALF = (32, 64, 128, 256, 512)
FULL = (64, 128, 256, 512, 1024)
TINY = (8, 16, 32, 64, 128)


def grid(
    features: tuple[int, ...],
    in_channels: int,
    out_channels: int,
    topology: str = "unet",
    **more: Any,
) -> GridUNet:
    return GridUNet(
        features=features,
        in_channels=in_channels,
        out_channels=out_channels,
        topology=topology,
        **more,
    )


@pytest.mark.parametrize(
    ("count", "build"),
    [
        # Ronneberger et al. 2015, and its widths
        (31_030_658, unet_2015),
        (31_030_658, lambda: unet_2015(padding="same")),
        (31_100_354, lambda: unet_2015(variant="release")),
        (7_759_521, lambda: unet_2015(1, 1, width=32)),
        (1_940_817, lambda: unet_2015(1, 1, width=16)),
        (7_759_521, unet_keras),
        (31_030_593, lambda: unet_2015(1, 1)),
        (31_031_745, lambda: unet_2015(3, 1)),
        (31_033_045, lambda: unet_2015(3, 21)),
        (31_042_434, lambda: grid(FULL, 1, 2, norm="batch")),
        (31_036_546, lambda: grid(FULL, 1, 2, norm="batch", bias=False)),
        (7_759_521, lambda: grid(HALF, 1, 1)),
        (7_759_554, lambda: grid(HALF, 1, 2)),
        (1_940_817, lambda: grid((16, 32, 64, 128, 256), 1, 1)),
        (1_940_834, lambda: grid((16, 32, 64, 128, 256), 1, 2)),
        # Çiçek et al. 2016
        (19_069_955, unet3d_2016),
        (19_074_627, lambda: unet3d_2016(affine=True)),
        (19_075_523, unet3d_with_up_bias),
        # Zhou, Zhang, Wu 2018
        (39_500_929, unet_deepglobe_2018),
        # Zhou et al. 2018
        (9_041_700, unetpp_2018),
        (9_042_276, lambda: unetpp_2018(in_channels=3)),
        (9_041_601, lambda: grid(HALF, 1, 1, "unet++", heads=(4,))),
        (9_042_177, lambda: grid(HALF, 3, 1, "unet++", heads=(4,))),
        (9_282_246, wide_unet_2018),
        (8_728_356, unet_e_2020),
        (8_728_356, unet_plus_2020),
        (8_728_356, lambda: grid(HALF, 1, 1, "unet_e")),
        (8_728_356, lambda: grid(HALF, 1, 1, "unet+")),
        (8_728_257, lambda: grid(HALF, 1, 1, "unet+", heads=(4,))),
        (7_759_521, lambda: grid(HALF, 1, 1, "unet_e", heads=(4,))),
        # in 3D
        (22_575_362, lambda: grid(HALF, 1, 2, spatial_dims=3)),
        (25_258_472, lambda: grid(HALF, 1, 2, "unet_e", spatial_dims=3)),
        (25_258_472, lambda: grid(HALF, 1, 2, "unet+", spatial_dims=3)),
        (26_198_504, lambda: grid(HALF, 1, 2, "unet++", spatial_dims=3)),
        # small ones
        (485_673, lambda: grid(TINY, 1, 1)),
        (546_444, lambda: grid(TINY, 1, 1, "unet_e")),
        (546_444, lambda: grid(TINY, 1, 1, "unet+")),
        (566_028, lambda: grid(TINY, 1, 1, "unet++")),
        (8_128, lambda: grid((4, 8, 16), 1, 2, "unet++")),
        (23_368, lambda: grid((4, 8, 16), 1, 2, "unet++", spatial_dims=3)),
    ],
)
def test_a_network_has_as_many_parameters_as_its_paper(
    count: int, build: Callable[[], GridUNet]
) -> None:
    with torch.device("meta"):
        assert parameters(build()) == count


@pytest.mark.parametrize(
    ("topology", "dims", "out", "counts"),
    [
        ("unet", 2, 1, (100_961, 465_953, 1_925_025, 7_759_521)),
        ("unet++", 2, 1, (100_961, 511_105, 2_204_961, 9_041_601)),
        ("unet++", 3, 2, (294_082, 1_482_466, 6_389_634, 26_198_306)),
    ],
)
def test_the_networks_that_end_at_l1_to_l4_have_as_many_parameters_as_the_paper(
    topology: str, dims: int, out: int, counts: tuple[int, ...]
) -> None:
    with torch.device("meta"):
        for k, count in enumerate(counts, start=1):
            built = grid(HALF[: k + 1], 1, out, topology, heads=(k,), spatial_dims=dims)
            assert parameters(built) == count
            assert topology != "unet" or parameters(unet_l(k)) == count
        assert topology != "unet" or sum(counts) == 10_251_460
        if topology == "unet++":
            whole = grid(HALF, 1, out, topology, spatial_dims=dims)
            assert [parameters(whole.pruned(k)) for k in (1, 2, 3, 4)] == list(counts)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(sorted(TOPOLOGIES)),
    st.sampled_from((2, 3)),
    st.lists(st.integers(1, 9), min_size=2, max_size=5),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_the_count_is_the_closed_form_of_the_topology(
    topology: str, dims: int, widths: list[int], n_in: int, n_out: int
) -> None:
    depth, kernel, up_kernel = len(widths) - 1, 3**dims, 2**dims

    def block(a: int, b: int) -> int:
        return kernel * a * b + b + kernel * b * b + b

    count = sum(block(a, b) for a, b in zip([n_in, *widths], widths, strict=False))
    for i in range(depth):
        for j in range(1, depth - i + 1):
            if topology != "unet" or i + j == depth:
                laterals = j if topology == "unet++" else 1
                count += up_kernel * widths[i + 1] * widths[i] + widths[i]
                count += block((laterals + 1) * widths[i], widths[i])
    count += (1 if topology == "unet" else depth) * (widths[0] * n_out + n_out)
    with torch.device("meta"):
        built = grid(tuple(widths), n_in, n_out, topology, spatial_dims=dims)
    assert parameters(built) == count


# --- sizes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("shape", [(188, 204), (44, 52, 48)], ids=str)
def test_every_node_of_a_valid_network_has_the_size_of_the_recursion(
    topology: str, shape: tuple[int, ...]
) -> None:
    depth = 4 if len(shape) == 2 else 2
    network = grid((2,) * (depth + 1), 1, 1, topology, spatial_dims=len(shape), padding="valid")
    seen = {}
    for name, node in network.nodes.items():
        node.register_forward_hook(lambda _m, _x, y, name=name: seen.update({name: y.shape[2:]}))
    network(torch.zeros(1, 1, *shape))
    axis = GridAxis((2,) * depth, (4,) * (depth + 1), (4,) * depth)
    per_axis = [axis.sizes(n) for n in shape]
    assert len(seen) == (2 * depth + 1 if topology == "unet" else (depth + 1) * (depth + 2) // 2)
    for name, size in seen.items():
        i, j = (int(part) for part in name.split("_")[1:])
        assert tuple(size) == tuple(sizes[i, j] for sizes in per_axis)


def test_the_papers_networks_have_the_papers_sizes() -> None:
    with torch.device("meta"):
        assert unet_2015()(torch.empty(1, 1, 572, 572)).shape == (1, 2, 388, 388)
        assert unet3d_2016()(torch.empty(1, 3, 132, 132, 116)).shape == (1, 3, 44, 44, 28)
        heads = unetpp_2018()(torch.empty(1, 1, 96, 96))
    assert [head.shape for head in heads] == [(1, 1, 96, 96)] * 4


def test_an_axis_that_is_pooled_less_often_has_a_shorter_period() -> None:
    network = GridUNet(3, features=(2, 3, 4), topology="unet++", pools=((2, 2, 1), (2, 2, 2)))
    assert network.geometry.period == (4, 4, 2)
    assert network.pruned(1).geometry.period == (2, 2, 1)
    assert [tuple(node.up.stride) for node in network.nodes.values() if hasattr(node, "up")] == [
        (2, 2, 1),
        (2, 2, 2),
        (2, 2, 1),
    ]


def test_shallow_heads_of_a_valid_network_are_larger_and_are_cropped_in_training() -> None:
    network = grid((2,) * 5, 1, 1, "unet++", padding="valid").double()
    x = torch.randn(1, 1, 188, 204, dtype=torch.float64)
    heads = network.forward_heads(x)
    assert [188 - head.shape[2] for head in heads] == [184, 88, 40, 16]
    for head, output in zip(heads, network(x), strict=True):
        margin = (head.shape[2] - 4) // 2
        assert torch.equal(output, head[..., margin : margin + 4, margin : margin + 20])


def test_center_crop_takes_the_middle() -> None:
    x = torch.arange(42.0).reshape(1, 1, 6, 7)
    assert torch.equal(center_crop(x, torch.empty(1, 5, 2, 3)), x[:, :, 2:4, 2:5])


# --- pruning ----------------------------------------------------------------------------------


def supervised(topology: str, padding: str, dims: int = 2) -> GridUNet:
    """Four heads, each with a bias far from the others', so that none can stand in for another."""
    torch.manual_seed(0)
    network = grid((2, 3, 4, 5, 6), 1, 2, topology, padding=padding, spatial_dims=dims)
    for name, head in network.heads.items():
        nn.init.constant_(head.bias, 10.0 * int(name[-1]))
    return network.double().eval()


CASES = [
    (topology, padding, shape)
    for topology in ("unet_e", "unet+", "unet++")
    for padding, shape in (("same", (32, 48)), ("valid", (188, 204)), ("same", (16, 32, 16)))
]


@pytest.mark.parametrize(("topology", "padding", "shape"), CASES)
def test_a_pruned_network_equals_its_head_exactly(
    topology: str, padding: str, shape: tuple[int, ...]
) -> None:
    network = supervised(topology, padding, len(shape))
    x = torch.randn(1, 1, *shape, dtype=torch.float64)
    with torch.no_grad():
        heads = network.forward_heads(x)
    for level, head in zip((4, 3, 2, 1), heads, strict=True):
        assert abs(head.mean() - 10 * level) < 5
        assert torch.equal(network.pruned(level)(x), head)


@pytest.mark.parametrize("topology", ["unet_e", "unet+", "unet++"])
def test_a_pruned_valid_network_needs_a_smaller_border(topology: str) -> None:
    """The input cut by the difference of the margins gives what the full network puts out."""
    network = supervised(topology, "valid")
    x = torch.randn(1, 1, 188, 204, dtype=torch.float64)
    with torch.no_grad():
        heads = network.forward_heads(x)
    for level, head in zip((4, 3, 2, 1), heads, strict=True):
        pruned = network.pruned(level)
        cut = (network.geometry.margin[0] - pruned.geometry.margin[0]) // 2
        out = pruned(x[..., cut : 188 - cut, cut : 204 - cut])
        expected = center_crop(head, heads[0])
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("topology", ["unet_e", "unet+", "unet++"])
def test_the_weights_of_a_pruned_network_are_a_subset(topology: str) -> None:
    network = supervised(topology, "same")
    whole = network.state_dict()
    for level in (1, 2, 3, 4):
        pruned = network.pruned(level).state_dict()
        assert all(torch.equal(value, whole[key]) for key, value in pruned.items())
        assert [key for key in pruned if key.startswith("heads")] == [
            f"heads.x_0_{level}.weight",
            f"heads.x_0_{level}.bias",
        ]
        assert (len(pruned) < len(whole)) == (level < 4 or len(network.heads) > 1)


def test_pruning_keeps_dtype_mode_and_the_network_itself() -> None:
    network = supervised("unet++", "same")
    x = torch.randn(1, 1, 16, 16, dtype=torch.float64)
    before = network(x)
    pruned = network.pruned(2)
    nn.init.zeros_(pruned.heads["x_0_2"].weight)
    assert torch.equal(network(x), before)
    assert not pruned.training
    assert network.train().pruned(2).training
    assert {p.dtype for p in pruned.parameters()} == {torch.float64}


def test_running_statistics_are_pruned_with_the_weights() -> None:
    torch.manual_seed(0)
    network = grid((2, 3, 4), 1, 1, "unet++", norm="batch")
    for _ in range(3):
        network(torch.randn(4, 1, 16, 16) + 2)
    x = torch.randn(1, 1, 16, 16)
    assert torch.equal(network.eval().pruned(1)(x), network.forward_heads(x)[1])


def test_pruning_to_a_level_without_a_head_is_refused() -> None:
    with pytest.raises(ValueError, match="no head at level 3; there are x_0_4"):
        grid((2,) * 5, 1, 1, "unet").pruned(3)
    with pytest.raises(ValueError, match="no head at level 0"):
        supervised("unet++", "same").pruned(0)


# --- gradients --------------------------------------------------------------------------------


def nodes_without_gradient(network: GridUNet, loss: Tensor) -> set[str]:
    loss.backward()
    return {
        name
        for name, node in network.nodes.items()
        if all(p.grad is None or not p.grad.any() for p in node.parameters())
    }


@pytest.mark.parametrize(
    ("topology", "dead"),
    [
        ("unet", set()),
        ("unet_e", {"x_0_1", "x_0_2", "x_0_3", "x_1_1", "x_1_2", "x_2_1"}),
        ("unet+", set()),
        ("unet++", set()),
    ],
)
def test_without_deep_supervision_only_unet_e_leaves_nodes_untrained(
    topology: str, dead: set[str]
) -> None:
    """Zhou et al.: the decoders of U-Net^e are not connected with each other."""
    torch.manual_seed(0)
    network = grid((8,) * 5, 1, 1, topology)
    outputs = network(torch.randn(2, 1, 32, 32))
    main = outputs[0] if isinstance(outputs, list) else outputs
    assert nodes_without_gradient(network, main.square().sum()) == dead


def test_deep_supervision_trains_every_node_of_unet_e() -> None:
    torch.manual_seed(0)
    network = grid((8,) * 5, 1, 1, "unet_e")
    outputs = network(torch.randn(2, 1, 32, 32))
    assert nodes_without_gradient(network, sum(z.square().sum() for z in outputs)) == set()


def test_weights_start_as_he_et_al_say() -> None:
    torch.manual_seed(0)
    network = grid((32, 64), 1, 1)
    conv = network.nodes["x_1_0"].block[1].conv.weight
    up = network.nodes["x_0_1"].up.weight
    assert conv.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.03)
    assert up.std().item() == pytest.approx((2 / (32 * 4)) ** 0.5, rel=0.05)
    assert not any(p.any() for name, p in network.named_parameters() if name.endswith("bias"))


def test_weights_of_the_keras_network_start_within_glorots_bound() -> None:
    torch.manual_seed(0)
    network = unet_keras(width=8)
    conv, up = network.nodes["x_1_0"].block[1].conv.weight, network.nodes["x_0_4"].up.weight
    for weight, fans in ((conv, 9 * (16 + 16)), (up, 4 * (16 + 8))):
        bound = (6 / fans) ** 0.5
        assert 0.95 * bound < weight.abs().max() <= bound
    assert not any(p.any() for name, p in network.named_parameters() if name.endswith("bias"))


# --- the release of the 2015 U-Net ------------------------------------------------------------


def test_in_the_release_two_levels_end_in_dropout_and_the_upper_skip_carries_it() -> None:
    torch.manual_seed(0)
    network = unet_2015(variant="release", padding="same", width=4).train()
    maps: dict[str, Tensor] = {}
    for name, node in network.nodes.items():
        node.register_forward_hook(lambda _m, _x, y, name=name: maps.update({name: y}))
    skips: list[Tensor] = []
    network.nodes["x_3_1"].block.register_forward_pre_hook(lambda _m, x: skips.append(x[0]))
    network(torch.randn(1, 1, 64, 64))
    ends = {name: [type(m) for m in node.block][-1] for name, node in network.nodes.items()}
    assert {name for name, end in ends.items() if end is nn.Dropout} == {"x_3_0", "x_4_0"}
    assert torch.equal(skips[0][:, :32], maps["x_3_0"])
    assert (maps["x_3_0"] == 0).double().mean() > (maps["x_2_0"] == 0).double().mean() + 0.1


def test_in_the_release_a_relu_follows_each_up_convolution_and_the_last_keeps_128_channels() -> (
    None
):
    with torch.device("meta"):
        release, paper = unet_2015(variant="release"), unet_2015()
    for name, node in release.nodes.items():
        if not name.endswith("_0"):
            assert isinstance(node.act, nn.ReLU)
    assert release.nodes["x_0_4"].up.out_channels == 128
    assert paper.nodes["x_0_4"].up.out_channels == 64
    assert release.state_dict().keys() == paper.state_dict().keys()


# --- choices ----------------------------------------------------------------------------------


def test_heads_may_be_given_in_any_order_and_twice() -> None:
    torch.manual_seed(0)
    network = grid((2, 3, 4), 1, 1, "unet++", heads=(1, 2, 2))
    torch.manual_seed(0)
    same = grid((2, 3, 4), 1, 1, "unet++", heads=(2, 1))
    x = torch.randn(1, 1, 8, 8)
    for a, b in zip(network(x), same(x), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"topology": "unet+++"}, r"one of unet, unet_e, unet\+, unet\+\+, got 'unet\+\+\+'"),
        ({"padding": "reflect"}, "padding must be one of same, valid"),
        ({"up_channels": (8, 16)}, "up_channels wants 4 values"),
        ({"features": (8,)}, "must lie in 1..0"),
        ({"heads": (1, 3)}, "include 4"),
        ({"heads": (0, 4)}, "must lie in 1..4"),
        ({"heads": (4, 5)}, "must lie in 1..4"),
        ({"heads": ()}, "must lie in 1..4"),
        ({"mid_features": (8, 16)}, "mid_features wants 5 values"),
        ({"level_dropout": (0.5,)}, "level_dropout wants 5 values"),
        ({"pools": ((2, 2),)}, "pools wants 4 values"),
        ({"pools": ((2, 2, 2),) * 4}, "a pooling wants 2 factors of 1 or 2"),
        ({"pools": ((3, 1),) * 4}, r"factors of 1 or 2, got \(3, 1\)"),
    ],
)
def test_a_choice_that_does_not_exist_is_refused(config: dict[str, Any], complaint: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=complaint):
        GridUNet(**config)


def test_a_variant_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="variant must be one of paper, release"):
        unet_2015(variant="caffe")
