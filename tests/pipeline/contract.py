"""What every network of the family keeps, as laws that run over any of them.

``test_contract.py`` runs them over all of ``NETWORKS``. A module that tests more configurations of
one network holds a list of entries and two lines::

    @pytest.mark.parametrize("law", contract.LAWS)
    @pytest.mark.parametrize("entry", ENTRIES, ids=str)
    def test_the_network_keeps_the_contract(law, entry): law(entry)
"""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from nestseg.inferers import OverlapTileInferer
from nestseg.networks import NETWORKS, SegmentationNetwork
from nestseg_prep.geometry import Geometry


@dataclass(frozen=True)
class Entry:
    """One configuration of a network, small enough to run in a moment.

    Attributes:
        build: the class or the builder.
        config: its arguments.
        heads: how many outputs it has in training.
        exports: whether ``torch.export`` is tried too; it takes a second.
        scripts: whether TorchScript is; likewise.
        idle: nodes that get no gradient from the main head alone.
        reach: of a 'same' network, how many voxels from the border padding is seen; None where
            that is farther than a test's image is wide, or everywhere (instance norm).
        name: what a test of it is called; default: its configuration.
    """

    build: Callable[..., nn.Module]
    config: dict[str, Any] = field(default_factory=dict)
    heads: int = 1
    exports: bool = False
    scripts: bool = True
    idle: frozenset[str] = frozenset()
    reach: int | None = None
    name: str = ""

    def __str__(self) -> str:
        if self.name:
            return self.name
        return "-".join([self.build.__name__, *(str(v) for v in self.config.values())])

    @property
    def channels(self) -> tuple[int, int]:
        return self.config["in_channels"], self.config["out_channels"]

    def network(self) -> Any:
        """In eval mode and float64, always with the same weights and biases that keep it alive."""
        torch.manual_seed(0)
        network = self.build(**self.config).double().eval()
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if name.endswith("bias"):
                    parameter.normal_(mean=0.2, std=0.1)
        return network


def named(name: str, spatial_dims: int, **more: Any) -> Entry:
    """The network ``name`` of ``NETWORKS``; ``more`` holds arguments and fields of the entry."""
    fields = {key: more.pop(key) for key in Entry.__dataclass_fields__ if key in more}
    config = {"in_channels": 1, "out_channels": 2, **more}
    if len(NETWORKS[name].spatial_dims) > 1:
        config["spatial_dims"] = spatial_dims
    fields.setdefault("build", NETWORKS[name].builder)
    return Entry(config=config, name=f"{name}-{spatial_dims}d", **fields)


def image(network: Any, channels: int, *, batch: int = 1, steps: int = 0) -> Tensor:
    """Noise of the smallest admissible shape, some ``steps`` longer, and one more in axis 1."""
    torch.manual_seed(1)
    shape = [
        axis.minimum + (steps + (k == 1)) * axis.period for k, axis in enumerate(axes(network))
    ]
    return torch.randn(batch, channels, *shape, dtype=torch.float64)


def axes(network: Any) -> Any:
    return network.geometry.axes


def outputs_in_training(network: Any, x: Tensor) -> list[Tensor]:
    outputs = network.train()(x)
    return outputs if isinstance(outputs, list) else [outputs]


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def it_carries_its_geometry(entry: Entry) -> None:
    network = entry.network()
    assert isinstance(network, SegmentationNetwork)
    assert isinstance(network.geometry, Geometry)


@torch.no_grad()
def its_output_has_the_size_that_its_geometry_says(entry: Entry) -> None:
    network = entry.network()
    first = image(network, entry.channels[0])
    longer = torch.cat([first, first[..., : axes(network)[-1].period]], dim=-1)
    for x in (first, longer):
        out = network(x)
        assert out.shape == (1, entry.channels[1], *network.geometry.output_size(x.shape[2:]))
        assert out.isfinite().all()
        assert out.std() > 0


def it_refuses_a_size_that_does_not_fit_and_names_those_that_do(entry: Entry) -> None:
    network = entry.network()
    x = image(network, entry.channels[0], steps=1)
    for k, axis in enumerate(axes(network)):
        n = x.shape[2 + k]
        if axis.period > 1:
            with pytest.raises(ValueError, match=re.escape(f"{n - axis.period} and {n}")):
                network(x.narrow(2 + k, 0, n - 1))


@torch.no_grad()
def it_returns_a_list_in_training_and_one_tensor_in_eval(entry: Entry) -> None:
    network = entry.network()
    x = image(network, entry.channels[0], batch=2)
    main = network(x)
    assert isinstance(main, Tensor)
    outputs = network.train()(x)
    assert isinstance(outputs, list if entry.heads > 1 else Tensor)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    assert len(outputs) == entry.heads
    assert {z.shape for z in outputs} == {main.shape}
    assert len({z.sum().item() for z in outputs}) == entry.heads
    behaves_otherwise = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    if not any(isinstance(m, behaves_otherwise) for m in network.modules()):
        close(outputs[0], main)


@torch.no_grad()
def each_image_of_a_batch_is_segmented_by_itself(entry: Entry) -> None:
    network = entry.network()
    x = image(network, entry.channels[0], batch=2)
    close(network(x), torch.cat([network(one[None]) for one in x]))


@torch.no_grad()
def it_gives_the_same_answer_twice(entry: Entry) -> None:
    network = entry.network()
    x = image(network, entry.channels[0])
    assert torch.equal(network(x), network(x))


def every_parameter_gets_a_gradient_in_training(entry: Entry) -> None:
    network = entry.network()
    outputs = outputs_in_training(network, image(network, entry.channels[0], batch=2))
    sum(z.square().sum() for z in outputs).backward()
    assert without_gradient(network) == []
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)


def its_main_head_alone_trains_all_nodes_but_the_idle_ones(entry: Entry) -> None:
    if entry.heads == 1:
        return
    network = entry.network()
    x = image(network, entry.channels[0], batch=2)
    outputs_in_training(network, x)[0].square().sum().backward()
    dead = [name for name in without_gradient(network) if not name.startswith("heads.")]
    assert {name.split(".")[1] for name in dead} == entry.idle


def without_gradient(network: nn.Module) -> list[str]:
    return [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]


@torch.no_grad()
def a_shift_by_the_period_shifts_the_output(entry: Entry) -> None:
    """Everywhere, if the network is valid; a 'same' one sees padding near the border."""
    network = entry.network()
    if not network.geometry.is_valid and entry.reach is None:
        return
    reach = entry.reach or 0
    x = image(network, entry.channels[0], steps=1 + reach // network.geometry.period[0])
    whole = network(x)
    for dim, axis in enumerate(axes(network), start=2):
        n, step = x.shape[dim], axis.period
        shifted = network(x.narrow(dim, step, n - step))
        inside = shifted.shape[dim] - reach
        assert inside > 0
        close(
            shifted.narrow(dim, reach, inside),
            whole.narrow(dim, whole.shape[dim] - inside, inside),
        )


@torch.no_grad()
def its_tiles_make_up_the_whole(entry: Entry) -> None:
    """Only of a valid network: windows of a 'same' one are blended."""
    network = entry.network()
    if not network.geometry.is_valid:
        return
    smallest = tuple(axis.minimum + axis.period for axis in axes(network))
    period = network.geometry.period
    whole = tuple(2 * p + 3 for p in period)  # fits no number of tiles
    x = torch.randn(1, entry.channels[0], *whole, dtype=torch.float64)
    large = network.geometry.input_size(whole)
    tiled, at_once = (OverlapTileInferer(roi)(x, network) for roi in (smallest, large))
    close(tiled, at_once)


@torch.no_grad()
def its_pruned_networks_are_its_heads(entry: Entry) -> None:
    network = entry.network()
    if not hasattr(network, "pruned"):
        return
    x = image(network, entry.channels[0])
    for name, head in zip(network.heads, network.forward_heads(x), strict=True):
        pruned = network.pruned(int(name.split("_")[-1]))
        assert torch.equal(pruned(x), head)
        weights = network.state_dict()
        assert all(torch.equal(value, weights[k]) for k, value in pruned.state_dict().items())


@torch.no_grad()
def its_weights_make_the_round_trip(entry: Entry) -> None:
    network, other = entry.network(), entry.build(**entry.config).double().eval()
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    x = image(network, entry.channels[0])
    assert torch.equal(network(x), other(x))


@torch.no_grad()
def it_can_be_copied(entry: Entry) -> None:
    network = entry.network()
    x = image(network, entry.channels[0])
    assert torch.equal(network(x), copy.deepcopy(network)(x))


def its_script_computes_the_same(entry: Entry) -> None:
    if not entry.scripts:
        return
    network = entry.network()
    scripted = torch.jit.script(network)
    for steps in (0, 1):
        x = image(network, entry.channels[0], steps=steps)
        close(scripted(x), network(x))
    assert isinstance(scripted.train()(image(network, entry.channels[0], batch=2)), list) == (
        entry.heads > 1
    )


def its_export_computes_the_same(entry: Entry) -> None:
    if not entry.exports:
        return
    network = entry.network()
    x = image(network, entry.channels[0])
    close(torch.export.export(network, (x,)).module()(x), network(x))


def its_onnx_graph_computes_the_same(entry: Entry) -> None:
    """In float32, as it would be deployed; to 1e-4. Not in LAWS: it takes seconds."""
    network = with_real_statistics(entry.network().float(), entry)
    x = image(network, entry.channels[0]).float()
    program = torch.onnx.export(network, (x,), dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    (out,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(out), network(x), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def with_real_statistics(network: Any, entry: Entry) -> Any:
    """Batch norms that have seen data, as after training.

    With those of a fresh network, the maps of a hundred residual layers grow to hundreds, and what
    float32 rounds off grows with them.
    """
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    network.train()(image(network, entry.channels[0], batch=4, steps=2).float())
    return network.eval()


LAWS = [
    it_carries_its_geometry,
    its_output_has_the_size_that_its_geometry_says,
    it_refuses_a_size_that_does_not_fit_and_names_those_that_do,
    it_returns_a_list_in_training_and_one_tensor_in_eval,
    it_gives_the_same_answer_twice,
    each_image_of_a_batch_is_segmented_by_itself,
    every_parameter_gets_a_gradient_in_training,
    its_main_head_alone_trains_all_nodes_but_the_idle_ones,
    a_shift_by_the_period_shifts_the_output,
    its_tiles_make_up_the_whole,
    its_pruned_networks_are_its_heads,
    its_weights_make_the_round_trip,
    it_can_be_copied,
    its_script_computes_the_same,
    its_export_computes_the_same,
]
