"""Which library computes: the one asked for, the fastest that was measured, or what is left."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from nestseg.networks import GridUNet
from nestseg.runtime import choosing, graphs, machine
from nestseg.runtime.backends import backend
from nestseg.runtime.building import Way
from nestseg.runtime.contract import Built, Task, UnavailableError
from nestseg.runtime.fast import load
from nestseg.runtime.proof import prove
from nestseg_prep.errors import InputError

CPU = torch.device("cpu")
FAST, PLAIN = Way("openvino", "fp32"), Way("torch", "fp32")


def small() -> GridUNet:
    torch.manual_seed(0)
    return GridUNet(2, 1, 2, (3, 4), "unet").eval()


def tile(seed: int = 1, size: int = 8) -> torch.Tensor:
    return torch.randn((1, 1, size, size), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def two_ways(monkeypatch):
    """Stand-ins for a library: torch by another name, which can be made slow or wrong or raise.

    What is tested is the choice, not a library; those are in test_backends.py.
    """
    one, eager = backend("openvino"), backend("torch")
    state = {"built": 0, "wrong": 0.0, "raises": None, "at_run": None}

    def build(task: Task, artefact: bytes = b"") -> Built:
        state["built"] += 1
        if state["raises"]:
            raise state["raises"]
        inner = eager.build(task).run

        def run(x: torch.Tensor) -> list[torch.Tensor]:
            if state["at_run"]:
                raise state["at_run"]
            return [z + state["wrong"] * z.square() for z in inner(x)]

        return Built(run, b"graph")

    monkeypatch.setattr(one, "check", lambda device, precision: None)
    monkeypatch.setattr(one, "version", lambda: "1")
    monkeypatch.setattr(one, "build", build)
    return state


def run(fast, count: int = 1) -> None:
    net = small()
    for seed in range(count):
        with torch.no_grad():
            torch.testing.assert_close(fast(tile(seed)), net(tile(seed)), rtol=1e-4, atol=1e-4)


def test_auto_measures_when_a_shape_has_come_often_enough(two_ways) -> None:
    fast = load(small(), "sha", CPU)
    run(fast, graphs.WORTH - 1)
    assert two_ways["built"] == 0
    assert fast.graphs.way == "torch fp32"
    run(fast)
    assert two_ways["built"] == 1
    assert fast.graphs.way in ("torch fp32", "openvino fp32")
    assert fast.graphs.notes == ()


@pytest.mark.parametrize("winner", [FAST, PLAIN])
def test_the_fastest_is_remembered_by_the_next_process(two_ways, monkeypatch, winner) -> None:
    seconds = {FAST: 1 if winner == FAST else 5, PLAIN: 3}
    now = [0]
    original = choosing.build

    def build(way, task, network):
        built = original(way, task, network)

        def timed(x):
            now[0] += seconds[way]
            return built.run(x)

        return Built(timed, built.artefact)

    monkeypatch.setattr(choosing, "build", build)
    monkeypatch.setattr(choosing, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    run(load(small(), "sha", CPU), graphs.WORTH)
    later = load(small(), "sha", CPU)
    run(later)
    assert later.graphs.way == str(winner)
    assert two_ways["built"] == (1 if winner == PLAIN else 2)  # the second from its artefact
    other = load(small(), "other weights", CPU)
    run(other)
    assert other.graphs.way == "torch fp32"  # nothing is known of these


def test_another_shape_takes_what_was_fastest_for_the_last(two_ways, monkeypatch) -> None:
    fast = load(small(), "sha", CPU)
    run(fast, graphs.WORTH)
    winner = fast.graphs.way
    monkeypatch.setattr(graphs, "fastest", None)  # nothing is measured again
    for seed in range(graphs.WORTH):
        with torch.no_grad():
            fast(torch.cat([tile(seed)] * 2, dim=-1))
    assert fast.graphs.way == winner
    assert fast.graphs.notes == ()


@pytest.mark.parametrize("kind", ["wrong", "raises", "at_run"])
def test_what_fails_is_given_up_with_one_line(two_ways, caplog, kind) -> None:
    two_ways[kind] = 0.5 if kind == "wrong" else ValueError("no such\nthing")
    fast = load(small(), "sha", CPU, "fp32", "openvino")
    with caplog.at_level(logging.WARNING, "nestseg.runtime"):
        run(fast, 3)
    assert fast.graphs.way == "torch fp32"
    reason = "its logits are off" if kind == "wrong" else "ValueError: no such"
    (note,) = fast.graphs.notes
    assert note.startswith(f"not computed by openvino fp32: {reason}")
    assert [record.message for record in caplog.records] == [note]
    assert two_ways["built"] == 1


def test_a_failure_while_measuring_leaves_torch(two_ways) -> None:
    two_ways["raises"] = RuntimeError("unsupported operation")
    fast = load(small(), "sha", CPU)
    run(fast, graphs.WORTH + 2)
    assert fast.graphs.way == "torch fp32"
    assert len(fast.graphs.notes) == 1
    assert two_ways["built"] == 1


def test_few_graphs_are_held_and_those_in_use_stay(two_ways) -> None:
    fast = load(small(), "sha", CPU, "fp32", "openvino")
    sizes = [8, 10, 12, 14, 16]
    for size in sizes:
        fast(tile(size=size))
        fast(tile(size=8))
    assert two_ways["built"] == len(sizes)
    assert {shape[-1] for _, shape in fast.graphs._of_shape} == {8, 12, 14, 16}


def test_memory_that_runs_out_is_no_fault_of_the_library(two_ways) -> None:
    fast = load(small(), "sha", CPU, "fp32", "openvino")
    run(fast)
    two_ways["at_run"] = MemoryError()
    with pytest.raises(MemoryError):
        fast(tile())


class Odd(nn.Module):
    """A network that channels last and bfloat16 break: it reshapes what it computed by ``view``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, x):
        out = self.conv(x)
        return out.view(out.shape[0], 2, -1)[..., : out[0, 0].numel()].reshape(
            out.shape[0], 2, *out.shape[2:]
        )


def test_the_network_itself_stands_behind_everything() -> None:
    torch.manual_seed(0)
    net = Odd().eval()
    fast = load(net, "sha", CPU, "fp32", "torch")
    with torch.no_grad():
        assert torch.equal(fast(tile()), net(tile()))
    assert fast.graphs.way == "the network as it is"
    assert len(fast.graphs.notes) == 1


def test_garbage_and_nan_are_no_proof() -> None:
    net = small()
    task = Task(net, (1, 1, 8, 8), False, "bf16", CPU, 1)
    prove(lambda x: [net(x)], task)
    for wrong in (float("nan"), 1e29):
        with pytest.raises(UnavailableError, match="off by"):
            prove(lambda x, wrong=wrong: [net(x).index_fill(2, torch.tensor([3]), wrong)], task)
    with pytest.raises(UnavailableError, match="another shape"):
        prove(lambda x: [net(x)[:, :1]], task)


def test_one_place_for_all_logits_is_no_proof() -> None:
    net = small()
    place = torch.empty(1, 2, 8, 8)
    task = Task(net, (1, 1, 8, 8), False, "fp32", CPU, 1)
    with pytest.raises(UnavailableError, match="off by"):
        prove(lambda x: [place.copy_(net(x))], task)


def test_unknown_choices_are_named() -> None:
    with pytest.raises(InputError, match=r"precision 'fp64': give one of auto, fp32, bf16, int8"):
        load(small(), "sha", CPU, "fp64")
    with pytest.raises(InputError, match=r"runtime 'tflite': give one of auto, torch"):
        load(small(), "sha", CPU, "fp32", "tflite")
    with pytest.raises(InputError, match="int8 is computed by openvino, not by torch"):
        load(small(), "sha", CPU, "int8", "torch")
    with pytest.raises(InputError, match="int8 needs a calibrated model"):
        load(small(), "sha", CPU, "int8")
    with pytest.raises(InputError, match="tensorrt computes on cuda, not on cpu"):
        load(small(), "sha", CPU, "fp32", "tensorrt")


def test_a_library_that_is_absent_is_named_with_the_mend_only_if_asked_for(monkeypatch) -> None:
    def absent():
        raise ImportError("No module named 'openvino'")

    monkeypatch.setattr(backend("openvino"), "core", absent)
    fast = load(small(), "sha", CPU)
    run(fast, graphs.WORTH)
    assert fast.graphs.way == "torch fp32"
    assert fast.graphs.notes == ()
    with pytest.raises(
        InputError, match=r"openvino is not installed: pip install 'nestseg\[fast\]'"
    ):
        load(small(), "sha", CPU, "fp32", "openvino")


def test_where_there_is_no_bfloat16_float32_is_computed_and_said(monkeypatch) -> None:
    monkeypatch.setattr(machine, "has_bf16", lambda device: False)
    fast = load(small(), "sha", CPU, "bf16", "torch")
    assert fast.graphs.notes == ("computed in float32: this device has no units for bfloat16",)
    run(fast)
    assert fast.graphs.way == "torch fp32"
