"""What is kept between processes: whole, or not at all."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from nestseg.networks import GridUNet
from nestseg.runtime import building, cache
from nestseg.runtime.backends import backend
from nestseg.runtime.building import Way
from nestseg.runtime.contract import Task
from nestseg.runtime.identity import network_digest

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)


def small(seed: int = 0, topology: str = "unet++") -> GridUNet:
    torch.manual_seed(seed)
    return GridUNet(2, 1, 2, (3, 4, 5), topology).eval()


def task(net: nn.Module, shape: tuple[int, ...] = (1, 1, 8, 8)) -> Task:
    return Task(net, shape, True, "fp32", torch.device("cpu"), 1)


def test_what_is_written_is_read(cache_folder: Path) -> None:
    assert cache.read("a") is None
    cache.write("a", b"payload")
    cache.write("b", b"")
    assert cache.read("a") == b"payload"
    assert cache.read("b") == b""
    assert sorted(path.name for path in cache_folder.iterdir()) == ["a", "b"]  # nothing half-done
    assert cache_folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:-1] + b"!"])
def test_a_damaged_entry_is_none(cache_folder: Path, damage) -> None:
    cache.write("a", b"payload")
    path = cache_folder / "a"
    path.write_bytes(damage(path.read_bytes()))
    assert cache.read("a") is None
    assert not path.exists()


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NESTSEG_CACHE", str(tmp_path / "file" / "below"))
    cache.write("a", b"payload")
    assert cache.read("a") is None


def test_what_another_user_wrote_is_not_read(monkeypatch) -> None:
    cache.write("a", b"payload")
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    assert cache.read("a") is None


def test_a_user_without_a_home_has_no_cache(monkeypatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("NESTSEG_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    cache.write("a", b"payload")
    assert cache.read("a") is None


def test_the_entry_that_was_unused_for_longest_makes_room(cache_folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(cache, "LARGEST", 250)
    for name in "abc":
        cache.write(name, bytes(60))
        cache.read("a")
    assert sorted(path.name for path in cache_folder.iterdir()) == ["a", "c"]


def test_the_users_cache_folder_is_the_place(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NESTSEG_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder() == tmp_path / "nestseg"


def test_digests_tell_networks_apart() -> None:
    digests = [
        network_digest(small(), "sha"),
        network_digest(small(), "other weights"),
        network_digest(small(topology="unet+"), "sha"),
        network_digest(small().pruned(1), "sha"),
        network_digest(nn.Sequential(nn.LeakyReLU(0.1)), "sha"),
        network_digest(nn.Sequential(nn.LeakyReLU(0.2)), "sha"),
    ]
    assert len(set(digests)) == len(digests)
    assert network_digest(small(), "sha") == network_digest(small(seed=1), "sha") == digests[0]


@needs_openvino
def test_a_graph_is_built_once_and_again_where_its_entry_is_damaged(
    cache_folder: Path, monkeypatch
) -> None:
    net, way, one = small(), Way("openvino", "fp32"), backend("openvino")
    artefacts = []

    def counted(job: Task, artefact: bytes = b""):
        artefacts.append(bool(artefact))
        return original(job, artefact)

    original = one.build
    monkeypatch.setattr(one, "build", counted)
    x = torch.randn(1, 1, 8, 8)
    with torch.no_grad():
        expected = net.forward_heads(x)

    def built(job: Task) -> None:
        found = building.build(way, job, network_digest(net, "sha")).run(x)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

    built(task(net))
    built(task(net))
    assert artefacts == [False, True]
    (path,) = cache_folder.iterdir()
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"!" + content[101:])
    built(task(net))
    assert artefacts == [False, True, False]
    assert cache.read(path.name) is not None
    cache.write(path.name, b"whole, but no graph")  # what an older library wrote, say
    built(task(net))
    assert artefacts[3:] == [True, False]
    monkeypatch.setattr(one, "version", lambda: "another")
    built(task(net))
    built(replace(task(net), threads=2))
    assert artefacts[5:] == [False, False]
    assert len(list(cache_folder.iterdir())) == 3


@needs_openvino
def test_a_compiled_graph_owns_its_weights() -> None:
    """Shared with torch they turn to garbage: the logits of stitched tiles were 1e29 in places."""
    from nestseg.runtime.backends import openvino  # noqa: PLC0415
    from nestseg.runtime.contract import Heads  # noqa: PLC0415

    net = small()
    x = torch.randn(1, 1, 8, 8)
    with torch.no_grad():
        expected = net(x)
        model = openvino.converted(Heads(net, every=False), (1, 1, 8, 8))
        for weight in net.parameters():
            weight.fill_(1e10)
    compiled = openvino.core().compile_model(model, "CPU", openvino._config(task(net)))
    found = openvino._runner(compiled)(x)
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-4)
