"""Every backend against the plain network in float32: tile by tile, and stitched."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import nn

from nestseg.inferers import Answers, OverlapTileInferer
from nestseg.networks import NETWORKS, GridUNet
from nestseg.networks.outputs import AccurateMode
from nestseg.runtime import machine
from nestseg.runtime.fast import load
from nestseg.runtime.folding import folded
from nestseg.runtime.proof import error

CPU = torch.device("cpu")
FP32 = 2e-5
"""Largest root mean square error over the logits' spread, in float32."""
BF16 = 0.05
"""The same in bfloat16."""


def needs(library: str) -> pytest.MarkDecorator:
    absent = importlib.util.find_spec(library) is None
    return pytest.mark.skipif(absent, reason=f"{library} is not installed")


RUNTIMES = ["torch", pytest.param("openvino", marks=needs("openvino"))]
ONNX = [needs("onnxruntime"), needs("onnxscript")]
IN_FLOAT32 = [
    *RUNTIMES,
    pytest.param("onnxruntime", marks=ONNX),
    pytest.param("compile", marks=pytest.mark.slow),
]
bf16 = pytest.mark.skipif(not machine.has_bf16(CPU), reason="this CPU has no units for bfloat16")


def with_statistics(network: nn.Module) -> nn.Module:
    """Batch norms that are no identities, as training leaves them."""
    source = torch.Generator().manual_seed(5)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor, low in (
                (module.running_mean, -0.3),
                (module.running_var, 0.5),
                (module.weight.data, 0.5),
                (module.bias.data, -0.5),
            ):
                tensor.copy_(torch.rand(tensor.shape, generator=source) + low)
    return network.eval()


def grid(dims: int, padding: str, norm: str = "batch", topology: str = "unet++") -> GridUNet:
    torch.manual_seed(0)
    net = GridUNet(dims, 1, 3, (6, 8, 10), topology, padding=padding, norm=norm)
    return with_statistics(net)


def noise(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tile(net: nn.Module, batch: int = 1, out: int = 8) -> torch.Tensor:
    size = net.geometry.input_size([out] * len(net.geometry.axes))
    return noise(batch, 1, *size)


def off(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    assert [z.shape for z in found] == [z.shape for z in expected]
    assert all(z.dtype == torch.float32 for z in found)
    return max(error(a, b) for a, b in zip(found, expected, strict=True))


KINDS = [(3, "same", "batch"), (3, "valid", "batch"), (2, "same", "instance"), (2, "valid", None)]


@pytest.mark.parametrize("runtime", IN_FLOAT32)
@pytest.mark.parametrize(("dims", "padding", "norm"), KINDS)
def test_float32_logits_are_those_of_the_network(runtime, dims, padding, norm) -> None:
    net = grid(dims, padding, norm)
    fast = load(net, "sha", CPU, "fp32", runtime)
    x = tile(net, batch=2)
    with torch.no_grad():
        assert off([fast(x)], [net(x)]) < FP32
        assert off(fast.forward_heads(x), net.forward_heads(x)) < FP32
    assert fast.graphs.way == f"{runtime} fp32"
    assert fast.graphs.notes == ()
    assert fast.geometry == net.geometry


@bf16
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("dims", "padding", "norm"), KINDS)
def test_bfloat16_logits_are_close(runtime, dims, padding, norm) -> None:
    net = grid(dims, padding, norm)
    fast = load(net, "sha", CPU, "bf16", runtime)
    x = tile(net)
    with torch.no_grad():
        found = off(fast.forward_heads(x), net.forward_heads(x))
    assert 1e-5 < found < BF16  # it is not float32 by another name
    assert fast.graphs.way == f"{runtime} bf16"


STITCHED = [
    (3, "same", (16, 16, 16), (30, 21, 33)),
    (3, "valid", (36, 36, 40), (25, 18, 30)),
    (2, "same", (16, 16), (30, 21, 3)),
]


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=bf16)])
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("dims", "padding", "roi", "shape"), STITCHED)
def test_the_stitched_image_is_that_of_the_network(
    runtime, precision, dims, padding, roi, shape
) -> None:
    net, image = grid(dims, padding), noise(1, 1, *shape)
    inferer = OverlapTileInferer(roi, 0.5, sw_batch_size=2)  # the last pass has fewer tiles
    with torch.no_grad():
        expected = inferer(image, Answers(net))
        found = inferer(image, Answers(load(net, "sha", CPU, precision, runtime)))
    bound = FP32 if precision == "fp32" else BF16
    assert error(found[:, :3], expected[:, :3]) < bound
    assert (found - expected).abs().max() < 20 * bound * expected.abs().max()  # nowhere rubbish
    agreed = (found[:, :3].argmax(1) == expected[:, :3].argmax(1)).double().mean()
    assert agreed > (0.9999 if precision == "fp32" else 0.97)


@pytest.mark.parametrize("runtime", IN_FLOAT32)
def test_logits_are_the_callers_own(runtime) -> None:
    net = grid(2, "same")
    fast = load(net, "sha", CPU, "fp32", runtime)
    first, second = noise(1, 1, 16, 16, seed=1), noise(1, 1, 16, 16, seed=2)
    kept = fast(first)
    before = kept.clone()
    other = fast(second)
    torch.testing.assert_close(kept, before, rtol=0, atol=0)
    other.zero_()
    torch.testing.assert_close(fast(second), net(second), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_tile_may_lie_in_memory_in_any_order(runtime) -> None:
    net = grid(3, "same")
    fast = load(net, "sha", CPU, "fp32", runtime)
    whole = noise(1, 1, 24, 20, 16).permute(0, 1, 4, 2, 3)
    x = whole[..., 3:19, 1:17]
    assert not x.is_contiguous()
    before = x.clone()
    with torch.no_grad():
        assert off([fast(x)], [net(x)]) < FP32
    assert torch.equal(x, before)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_shape_gets_its_graph_and_a_smaller_batch_none(runtime) -> None:
    net = grid(2, "same")
    fast = load(net, "sha", CPU, "fp32", runtime)
    with torch.no_grad():
        for shape in ((3, 1, 16, 16), (1, 1, 8, 24), (2, 1, 16, 16), (3, 1, 16, 16)):
            x = noise(*shape)
            assert off([fast(x)], [net(x)]) < FP32
    assert len(fast.graphs._of_shape) == 2


def test_the_accurate_mode_averages_heads_that_are_computed_fast() -> None:
    net = AccurateMode(grid(2, "same")).eval()
    fast = load(net, "sha", CPU, "fp32", "torch")
    x = tile(net)
    with torch.no_grad():
        assert off([fast(x)], [net(x)]) < FP32
        assert off([Answers(fast)(x)], [Answers(net)(x)]) < FP32
    assert fast.network.graphs.way == "torch fp32"


def test_the_reference_is_left_as_it_was() -> None:
    net = grid(3, "same")
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    x = tile(net)
    before = net(x)
    load(net, "sha", CPU, "bf16", "torch")(x)
    assert list(net.state_dict()) == list(weights)
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    assert torch.equal(net(x), before)


def norms(net: nn.Module) -> int:
    return sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in net.modules())


@pytest.mark.parametrize("name", ["unet_l2", "linknet_2017", "unetpp_resnet18"])
def test_folding_changes_no_logits(name) -> None:
    torch.manual_seed(0)
    net = NETWORKS[name].build(2, in_channels=1, out_channels=2)
    net = with_statistics(net)
    x = tile(net)
    with torch.no_grad():
        assert error(folded(net)(x), net(x)) < FP32


def test_every_batch_norm_of_a_grid_is_folded_and_no_instance_norm() -> None:
    assert norms(grid(3, "same")) > 0
    assert norms(folded(grid(3, "same"))) == 0
    instance = folded(grid(3, "same", "instance"))
    assert sum(isinstance(m, nn.InstanceNorm3d) for m in instance.modules()) > 0


def test_a_convolution_that_is_used_twice_is_not_folded() -> None:
    conv = nn.Conv2d(2, 2, 3, padding=1)
    net = with_statistics(nn.Sequential(conv, nn.BatchNorm2d(2), nn.ReLU(), conv))
    x = noise(1, 2, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(folded(net)(x), net(x))
    assert norms(folded(net)) == 1


def test_transposed_convolutions_are_folded_where_they_can_be() -> None:
    net = nn.Sequential(
        nn.ConvTranspose2d(2, 4, 2, 2), nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 4, 2, 2, groups=2)
    ).append(nn.BatchNorm2d(4))
    net = with_statistics(net)
    x = noise(1, 2, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(folded(net)(x), net(x))
    assert norms(folded(net)) == 1
