"""Every loss against its paper's formula, written out here."""

from __future__ import annotations

import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.bundle import ConfigParser
from monai.losses import DeepSupervisionLoss, DiceCELoss
from torch import Tensor, nn

from nestseg.losses import (
    BorderWeightedCELoss,
    ClassWeightedCELoss,
    HeadsLoss,
    dlinknet_loss,
    keras_dice_loss,
    linknet_class_weights,
    u2net_loss,
    unetpp_loss,
)
from nestseg.networks import unetpp_2018
from nestseg.networks.grid import GridUNet

SHAPES = [(3, 1, 6, 5), (2, 1, 4, 3, 5)]


def logits(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def mask(shape: tuple[int, ...], seed: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(shape, generator=generator) < 0.4).float()


def bce(z: Tensor, y: Tensor) -> Tensor:
    p = 1 / (1 + torch.exp(-z))
    return -(y * p.log() + (1 - y) * (1 - p).log()).mean()


def unetpp_formula(z: Tensor, y: Tensor) -> Tensor:
    p = 1 / (1 + torch.exp(-z))
    dices = [2 * (a * b).sum() / (a.sum() + b.sum()) for a, b in zip(p, y, strict=True)]
    return 0.5 * bce(z, y) - sum(dices) / len(dices)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_keras_dice_is_the_smoothed_dice_of_the_flattened_batch(shape: tuple[int, ...]) -> None:
    z, y = logits(shape), mask(shape)
    p = 1 / (1 + torch.exp(-z))
    published = -(2 * (y * p).sum() + 1) / (y.sum() + p.sum() + 1)
    close(keras_dice_loss()(z, y) - 1, published)


@pytest.mark.parametrize("shape", SHAPES)
def test_unetpp_is_half_a_cross_entropy_and_the_dice_of_each_image(shape: tuple[int, ...]) -> None:
    z, y = logits(shape), mask(shape)
    close(unetpp_loss()(z, y) - 1, unetpp_formula(z, y))


def test_unetpp_adds_up_its_heads() -> None:
    shape = SHAPES[0]
    heads, y = [logits(shape, seed) for seed in range(4)], mask(shape)
    close(unetpp_loss()(heads, y) - 4, sum(unetpp_formula(z, y) for z in heads))


@pytest.mark.parametrize("shape", SHAPES)
def test_dlinknet_adds_the_dice_of_the_flattened_batch(shape: tuple[int, ...]) -> None:
    z, y = logits(shape), mask(shape)
    p = 1 / (1 + torch.exp(-z))
    dice = 2 * (y * p).sum() / (y.sum() + p.sum())
    close(dlinknet_loss()(z, y), bce(z, y) + 1 - dice)


def test_u2net_adds_the_cross_entropies_of_seven_outputs() -> None:
    shape = SHAPES[0]
    heads, y = [logits(shape, seed) for seed in range(7)], mask(shape)
    close(u2net_loss()(heads, y), sum(bce(z, y) for z in heads))
    close(u2net_loss()(heads, y.long()), sum(bce(z, y) for z in heads))


@pytest.mark.parametrize("loss", [unetpp_loss(), dlinknet_loss(), keras_dice_loss(), u2net_loss()])
def test_a_certain_network_on_an_empty_image_has_a_finite_loss_and_gradient(
    loss: nn.Module,
) -> None:
    # The papers' unsmoothed Dice is 0/0 here: sigmoid(-200) is 0 in float32.
    z = torch.full((2, 1, 4, 4), -200.0, requires_grad=True)
    value = loss(z, torch.zeros(2, 1, 4, 4))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_border_weighted_cross_entropy_is_the_papers_sum_over_pixels() -> None:
    z = logits((2, 3, 4, 5))
    label = torch.randint(0, 3, (2, 4, 5), generator=torch.Generator().manual_seed(0))
    weight = torch.rand(2, 4, 5)
    total = 0.0
    for b in range(2):
        for i in range(4):
            for j in range(5):
                p = torch.exp(z[b, :, i, j]) / torch.exp(z[b, :, i, j]).sum()
                total -= (weight[b, i, j] * torch.log(p[label[b, i, j]])).item()
    loss = BorderWeightedCELoss()(z, torch.stack([label.float(), weight], dim=1))
    assert loss.item() == pytest.approx(total / 40, rel=1e-5)


def test_a_voxel_of_weight_0_does_not_teach() -> None:
    z = logits((1, 2, 3, 3, 3)).requires_grad_()
    target = torch.stack([torch.zeros(1, 3, 3, 3), torch.ones(1, 3, 3, 3)], dim=1)
    target[0, 1, 1, 1, 1] = 0
    BorderWeightedCELoss()(z, target).backward()
    assert z.grad is not None
    taught = z.grad[0].abs().sum(dim=0) > 0
    assert not taught[1, 1, 1]
    assert taught.sum() == 26


def test_a_target_without_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="1 channels, expected label and weight"):
        BorderWeightedCELoss()(torch.zeros(1, 2, 3, 3), torch.zeros(1, 1, 3, 3))


def test_linknet_weighs_classes_by_the_logarithm_of_their_frequency() -> None:
    weights = linknet_class_weights([1000, 500, 10, 0])
    assert weights == pytest.approx(
        [1 / math.log(2.02), 1 / math.log(1.52), 1 / math.log(1.03), 1 / math.log(1.02)]
    )
    assert weights == sorted(weights)


def test_linknet_weights_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("no class occurs in [0, 0]")):
        linknet_class_weights([0, 0])


def test_class_weighted_cross_entropy_averages_by_the_weights() -> None:
    z = logits((2, 3, 4, 5))
    label = torch.randint(0, 3, (2, 1, 4, 5), generator=torch.Generator().manual_seed(0))
    counts = [90, 9, 1]
    w = torch.tensor(linknet_class_weights(counts))[label[:, 0]]
    log_p = (z.exp() / z.exp().sum(dim=1, keepdim=True)).log().gather(1, label)[:, 0]
    close(ClassWeightedCELoss(counts)(z, label.float()), -(w * log_p).sum() / w.sum())


@given(st.lists(st.floats(0.1, 1), min_size=1, max_size=5))
def test_heads_weigh_as_told_main_first(weights: list[float]) -> None:
    weights.sort(reverse=True)
    shape = SHAPES[0]
    heads, y = [logits(shape, seed) for seed in range(len(weights))], mask(shape)
    expected = sum(w * bce(z, y) for w, z in zip(weights, heads, strict=True))
    close(HeadsLoss(nn.BCEWithLogitsLoss(), weights)(heads, y), expected)


@pytest.mark.parametrize("weights", [None, (1.0, 1.0, 1.0)])
def test_equal_heads_are_monais_deep_supervision(weights: tuple[float, ...] | None) -> None:
    shape = SHAPES[1]
    heads, y = [logits(shape, seed) for seed in range(3)], mask(shape)
    inner = DiceCELoss(sigmoid=True)
    close(HeadsLoss(inner, weights)(heads, y), DeepSupervisionLoss(inner, "same")(heads, y))


@pytest.mark.parametrize(
    "weights", [(0.125, 0.25, 0.5, 1.0), (1.0, 0.5, 0.6), (0.0, 0.0), (1.0, -0.5), ()]
)
def test_weights_that_would_favour_a_shallow_head_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="must fall from the first"):
        HeadsLoss(nn.BCEWithLogitsLoss(), weights)


def test_another_number_of_heads_than_of_weights_is_refused() -> None:
    # MONAI would silently weigh four heads 1, 1/2, 1/4, 1/8.
    shape = SHAPES[0]
    with pytest.raises(ValueError, match="4 heads, but 3 weights"):
        HeadsLoss(nn.BCEWithLogitsLoss(), (1, 1, 1))([logits(shape)] * 4, mask(shape))


def test_a_target_of_another_size_is_refused_not_rescaled() -> None:
    with pytest.raises(ValueError, match=re.escape("shape (4, 4) and a target of (8, 8)")):
        HeadsLoss(nn.BCEWithLogitsLoss())([torch.zeros(1, 1, 4, 4)], torch.zeros(1, 1, 8, 8))


def test_the_first_weight_is_that_of_the_networks_deepest_head() -> None:
    network = GridUNet(features=(2, 4, 8), out_channels=1, topology="unet++").train()
    heads = network(torch.randn(1, 1, 8, 8))
    HeadsLoss(nn.BCEWithLogitsLoss(), (1, 0))(heads, torch.ones(1, 1, 8, 8)).backward()
    gradients = {
        name: parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        for name, parameter in network.heads.named_parameters()
    }
    assert gradients == {
        "x_0_2.weight": True,
        "x_0_2.bias": True,
        "x_0_1.weight": False,
        "x_0_1.bias": False,
    }


def test_a_network_in_evaluation_is_scored_by_its_main_head() -> None:
    z, y = logits(SHAPES[0]), mask(SHAPES[0])
    close(HeadsLoss(nn.BCEWithLogitsLoss(), (0.7, 0.1))(z, y), bce(z, y))


def test_unetpp_of_the_paper_trains_with_its_loss() -> None:
    torch.manual_seed(0)
    network = unetpp_2018(in_channels=1, out_channels=1).train()
    x = torch.randn(1, 1, 16, 16)
    loss = unetpp_loss()(network(x), (x > 0.5).long())
    loss.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_bundle_builds_the_losses_by_name() -> None:
    config = {
        "border": {"_target_": "nestseg.losses.BorderWeightedCELoss"},
        "classes": {"_target_": "nestseg.losses.ClassWeightedCELoss", "counts": [9, 1]},
        "unetpp": {"_target_": "nestseg.losses.unetpp_loss"},
    }
    parser = ConfigParser(config)
    assert isinstance(parser.get_parsed_content("border"), BorderWeightedCELoss)
    assert isinstance(parser.get_parsed_content("classes"), ClassWeightedCELoss)
    assert isinstance(parser.get_parsed_content("unetpp"), HeadsLoss)
