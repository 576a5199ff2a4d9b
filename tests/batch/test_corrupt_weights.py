"""Weights that are cut, flipped, foreign or a program are refused before any case, never run."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from nestseg.batch.jobs import Limits, Settings
from nestseg.batch.local import LocalPool
from nestseg.bundle.weights import read_weights
from nestseg_prep.errors import InputError
from tests.opened import models, opened

Spoil = Callable[[Path], object]


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy to be spoilt."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "spoilt"))


def weights(bundle: Path) -> Path:
    return bundle / "models" / "model.pt"


class Program:
    """Unpickled, it makes a folder."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.canary),)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def foreign(path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, path)


@pytest.mark.parametrize("spoil", [cut, foreign, Path.unlink, lambda path: path.write_bytes(b"")])
def test_damaged_weights_are_refused(bundle: Path, spoil: Spoil) -> None:
    spoil(weights(bundle))
    with pytest.raises(InputError, match=r"models/model\.pt"):
        opened(bundle)


def test_a_flipped_bit_never_changes_a_weight_unseen(bundle: Path) -> None:
    network = models(opened(bundle))[0].network
    true = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    whole = weights(bundle).read_bytes()
    draw = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        place, bit = int(draw.integers(len(whole))), 1 << int(draw.integers(8))
        weights(bundle).write_bytes(
            whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :]
        )
        try:
            read_weights(network, bundle)
        except InputError:
            refused += 1
        else:  # a bit of the padding or of a date in the archive
            assert all(torch.equal(true[k], v) for k, v in network.state_dict().items())
    assert refused > 100


@pytest.mark.parametrize(
    "write", [torch.save, lambda thing, path: path.write_bytes(pickle.dumps(thing))]
)
def test_a_program_in_the_place_of_weights_is_refused_and_not_run(
    bundle: Path, tmp_path: Path, write: Callable[[object, Path], object]
) -> None:
    canary = tmp_path / "canary"
    write({"weight": Program(canary)}, weights(bundle))
    with pytest.raises(InputError, match=r"models/model\.pt"):
        opened(bundle)
    assert not canary.exists()
    with suppress(RuntimeError):
        torch.load(weights(bundle), weights_only=False)
    assert canary.exists()  # the program works


@pytest.mark.slow
def test_a_pool_refuses_before_any_case(bundle: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    torch.save({"weight": Program(canary)}, weights(bundle))
    pool = LocalPool(Settings(bundle), Limits(), 1)
    try:
        with pytest.raises(InputError, match=r"models/model\.pt is damaged"):
            pool.ready()
    finally:
        pool.close(kill=True)
    assert not canary.exists()
