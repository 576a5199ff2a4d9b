"""Reduced precision inside, float32 outside."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nestseg.inferers import AutocastInferer

X = torch.linspace(-1, 1, 64).reshape(4, 16)


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(16, 3)


def test_logits_come_back_in_float32_with_the_precision_of_bfloat16() -> None:
    network = linear()
    logits = AutocastInferer("bfloat16")(X, network)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, logits.bfloat16().float())
    torch.testing.assert_close(logits, network(X), rtol=0.02, atol=0.02)


def test_every_head_comes_back_in_float32() -> None:
    network = linear()

    def heads(x: Tensor) -> list[Tensor]:
        return [network(x), 2 * network(x)]

    main, other = AutocastInferer("bfloat16")(X, heads)
    assert main.dtype == other.dtype == torch.float32
    assert torch.equal(other, 2 * main)


def test_float32_is_the_plain_network() -> None:
    network = linear()
    assert torch.equal(AutocastInferer("float32")(X, network), network(X))
