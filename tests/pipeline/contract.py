"""What every network of the family keeps, as laws that run over any of them.

A test module of a network holds one list of entries and two lines::

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

import pytest
import torch
from torch import Tensor, nn

from nestseg.networks import SegmentationNetwork
from nestseg_prep.geometry import Geometry


@dataclass(frozen=True)
class Entry:
    """One configuration of a network, small enough to run in a moment.

    Attributes:
        build: the class or the builder.
        config: its arguments.
        heads: how many outputs it has in training.
        exports: whether ``torch.export`` is tried too; it takes a second.
    """

    build: Callable[..., nn.Module]
    config: dict[str, Any] = field(default_factory=dict)
    heads: int = 1
    exports: bool = False

    def __str__(self) -> str:
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


def image(network: Any, channels: int, *, batch: int = 1, steps: int = 0) -> Tensor:
    """Noise of the smallest admissible shape, some ``steps`` longer, and one more in axis 1."""
    torch.manual_seed(1)
    shape = [
        axis.minimum + (steps + (k == 1)) * axis.period for k, axis in enumerate(axes(network))
    ]
    return torch.randn(batch, channels, *shape, dtype=torch.float64)


def axes(network: Any) -> Any:
    return network.geometry.axes


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def it_carries_its_geometry(entry: Entry) -> None:
    network = entry.network()
    assert isinstance(network, SegmentationNetwork)
    assert isinstance(network.geometry, Geometry)


def its_output_has_the_size_that_its_geometry_says(entry: Entry) -> None:
    network = entry.network()
    for steps in (0, 1):
        x = image(network, entry.channels[0], steps=steps)
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
    if not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules()):
        close(outputs[0], main)


def each_image_of_a_batch_is_segmented_by_itself(entry: Entry) -> None:
    network = entry.network()
    x = image(network, entry.channels[0], batch=2)
    close(network(x), torch.cat([network(one[None]) for one in x]))


def every_parameter_gets_a_gradient_in_training(entry: Entry) -> None:
    network = entry.network().train()
    outputs = network(image(network, entry.channels[0], batch=2))
    total = sum(z.square().sum() for z in (outputs if isinstance(outputs, list) else [outputs]))
    total.backward()
    dead = [name for name, p in network.named_parameters() if p.grad is None]
    assert dead == []
    assert all(p.grad.isfinite().all() for p in network.parameters())


def a_shift_by_the_period_shifts_the_output(entry: Entry) -> None:
    """Only of a valid network: the border of a 'same' one sees padding."""
    network = entry.network()
    if not network.geometry.is_valid:
        return
    x = image(network, entry.channels[0], steps=1)
    whole = network(x)
    for dim, axis in enumerate(axes(network), start=2):
        n, step = x.shape[dim], axis.period
        shifted = network(x.narrow(dim, step, n - step))
        close(shifted, whole.narrow(dim, step, whole.shape[dim] - step))


def its_weights_make_the_round_trip(entry: Entry) -> None:
    network, other = entry.network(), entry.build(**entry.config).double().eval()
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    x = image(network, entry.channels[0])
    assert torch.equal(network(x), other(x))


def it_can_be_copied(entry: Entry) -> None:
    network = entry.network()
    x = image(network, entry.channels[0])
    assert torch.equal(network(x), copy.deepcopy(network)(x))


def its_script_computes_the_same(entry: Entry) -> None:
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


LAWS = [
    it_carries_its_geometry,
    its_output_has_the_size_that_its_geometry_says,
    it_refuses_a_size_that_does_not_fit_and_names_those_that_do,
    it_returns_a_list_in_training_and_one_tensor_in_eval,
    each_image_of_a_batch_is_segmented_by_itself,
    every_parameter_gets_a_gradient_in_training,
    a_shift_by_the_period_shifts_the_output,
    its_weights_make_the_round_trip,
    it_can_be_copied,
    its_script_computes_the_same,
    its_export_computes_the_same,
]
