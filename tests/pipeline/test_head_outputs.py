"""The mean of the heads, and their disagreement."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nestseg.inferers import OverlapTileInferer
from nestseg.networks import GridUNet
from nestseg.networks.outputs import (
    AccurateMode,
    Activation,
    head_disagreement,
    mean_of_heads,
)

ACTIVATIONS: list[Activation] = ["softmax", "sigmoid"]


def heads(number: int, channels: int = 3, seed: int = 0, scale: float = 3.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        scale * torch.randn(2, channels, 4, 5, generator=generator, dtype=torch.float64)
        for _ in range(number)
    ]


def probabilities(z: Tensor, activation: str) -> Tensor:
    return z.softmax(dim=1) if activation == "softmax" else z.sigmoid()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@given(number=st.integers(1, 5), seed=st.integers(0, 999), scale=st.floats(0.01, 8))
@settings(deadline=None, max_examples=25)
def test_the_mean_has_the_mean_probability(
    activation: Activation, number: int, seed: int, scale: float
) -> None:
    logits = heads(number, seed=seed, scale=scale)
    expected = torch.stack([probabilities(z, activation) for z in logits]).mean(dim=0)
    mean = probabilities(mean_of_heads(logits, activation), activation)
    torch.testing.assert_close(mean, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_averaging_logits_is_another_thing(activation: Activation) -> None:
    logits = heads(4)
    naive = probabilities(torch.stack(logits).mean(dim=0), activation)
    mean = probabilities(mean_of_heads(logits, activation), activation)
    assert (naive - mean).abs().max() > 0.1


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_certain_heads_stay_finite_and_keep_the_dtype(
    activation: Activation, dtype: torch.dtype
) -> None:
    logits = [torch.full((1, 2, 3), value, dtype=dtype) for value in (-200.0, -250.0, -300.0)]
    mean = mean_of_heads(logits, activation)
    assert mean.dtype == dtype
    assert mean.isfinite().all()


def test_the_mean_of_equal_heads_is_that_head() -> None:
    (z,) = heads(1)
    torch.testing.assert_close(mean_of_heads([z] * 4, "sigmoid"), z)
    torch.testing.assert_close(mean_of_heads([z] * 4, "softmax").softmax(1), z.softmax(1))


def test_larger_heads_of_a_valid_network_are_cropped_to_the_main_one() -> None:
    torch.manual_seed(0)
    network = GridUNet(features=(2, 3, 4), topology="unet++", padding="valid").eval()
    logits = network.forward_heads(torch.randn(1, 1, 44, 48))
    assert logits[1].shape[2:] > logits[0].shape[2:]
    assert mean_of_heads(logits, "softmax").shape == logits[0].shape
    assert head_disagreement(logits, "softmax").shape == (1, 1, *logits[0].shape[2:])


def divergence(distributions: Tensor) -> float:
    """Jensen-Shannon of ``(K, C)``, as the difference of two entropies."""

    def entropy(p: Tensor) -> float:
        return -sum(x * math.log(x) for x in p.tolist() if x)

    mean = distributions.mean(dim=0)
    return entropy(mean) - sum(map(entropy, distributions)) / len(distributions)


@pytest.mark.parametrize(("number", "classes"), [(2, 2), (4, 2), (2, 5), (4, 3)])
def test_disagreement_is_the_normalised_jensen_shannon_divergence(
    number: int, classes: int
) -> None:
    logits = heads(number, classes)
    found = head_disagreement(logits, "softmax")
    assert found.shape == (2, 1, 4, 5)
    p = torch.stack(logits).softmax(dim=2)
    for b, i, j in [(0, 0, 0), (1, 3, 4), (0, 2, 1)]:
        expected = divergence(p[:, b, :, i, j]) / math.log(min(number, classes))
        assert found[b, 0, i, j].item() == pytest.approx(expected, abs=1e-12)


def test_with_a_sigmoid_the_most_disputed_channel_counts() -> None:
    logits = heads(3, channels=2)
    found = head_disagreement(logits, "sigmoid")
    p = torch.stack(logits).sigmoid()[:, 0, :, 1, 2]  # (K, C)
    each = [divergence(torch.stack([q, 1 - q], dim=1)) for q in p.T]
    assert found[0, 0, 1, 2].item() == pytest.approx(max(each) / math.log(2), abs=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@given(number=st.integers(2, 5), seed=st.integers(0, 999), scale=st.floats(0, 1e6))
@settings(deadline=None, max_examples=25)
def test_disagreement_lies_between_0_and_1_whatever_the_order(
    activation: Activation, number: int, seed: int, scale: float
) -> None:
    logits = [z.float() for z in heads(number, seed=seed, scale=scale)]
    found = head_disagreement(logits, activation)
    assert found.isfinite().all()
    assert found.min() >= 0
    assert found.max() <= 1
    torch.testing.assert_close(found, head_disagreement(logits[::-1], activation))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_equal_heads_agree_even_where_they_are_unsure(activation: Activation) -> None:
    (z,) = heads(1)
    assert head_disagreement([z, z, z], activation).max() < 1e-12
    assert head_disagreement([torch.zeros(1, 2, 3)] * 2, activation).max() == 0


def test_certain_heads_that_name_different_classes_disagree_fully() -> None:
    one_hot = 100 * torch.eye(3)[:, None, :, None]  # head k is certain of class k
    assert head_disagreement(list(one_hot), "softmax").item() == pytest.approx(1)
    for_and_against = [torch.full((1, 1, 1), 100.0), torch.full((1, 1, 1), -100.0)]
    assert head_disagreement(for_and_against, "sigmoid").item() == pytest.approx(1)


def test_half_precision_logits_are_compared_in_single_precision() -> None:
    logits = [z.bfloat16() for z in heads(3)]
    for activation in ACTIVATIONS:
        found = head_disagreement(logits, activation)
        assert found.dtype == torch.float32
        exact = head_disagreement([z.double() for z in logits], activation)
        torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-6)


def test_disagreement_of_one_head_or_of_one_softmax_channel_is_refused() -> None:
    with pytest.raises(ValueError, match="takes two"):
        head_disagreement(heads(1), "softmax")
    with pytest.raises(ValueError, match="use the sigmoid"):
        head_disagreement(heads(2, channels=1), "softmax")
    with pytest.raises(ValueError, match="no heads"):
        mean_of_heads([], "softmax")


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_accurate_mode_is_the_mean_of_the_heads_through_the_inferer(padding: str) -> None:
    torch.manual_seed(0)
    network = GridUNet(2, 1, 3, (2, 3, 4), "unet++", padding=padding).double()
    accurate = AccurateMode(network).eval()
    x = torch.randn(1, 1, 60, 52, dtype=torch.float64)
    mean = torch.stack(
        [OverlapTileInferer((100, 100))(x, network.pruned(k)).softmax(1) for k in (1, 2)]
    ).mean(dim=0)
    out = OverlapTileInferer((100, 100))(x, accurate)
    torch.testing.assert_close(out.softmax(1), mean, rtol=1e-10, atol=1e-12)
    heads_in_training = accurate.train()(x)
    assert isinstance(heads_in_training, list)
    assert len(heads_in_training) == 2
