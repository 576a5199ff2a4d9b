"""Plans are legal for every data set and budget, follow the published rules, and keep to memory."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nestseg.bundle import backbone
from nestseg.bundle.memory import Network, activations, parameters, training_bytes
from nestseg.bundle.plan import (
    MAX_DEPTH,
    SHORTEST,
    Plan,
    grid_geometry,
    make_plan,
    poolings,
    target_spacing,
)
from nestseg.networks import BackboneUNet, GridUNet
from nestseg_prep.errors import InputError
from nestseg_prep.fingerprint import Fingerprint, Intensities, LabelFacts

GB = 10**9

VALUES = Intensities(0.0, 50.0, 100.0, 50.0, 20.0)
spacings = st.tuples(*[st.floats(0.3, 8.0)] * 3)
shapes = st.tuples(*[st.integers(1, 400)] * 3)


def facts(shape: tuple[int, int, int], *spacings: tuple[float, float, float]) -> Fingerprint:
    return Fingerprint(
        cases=tuple(map(str, range(len(spacings)))),
        shapes=(shape,) * len(spacings),
        spacings=spacings,
        labels={0: LabelFacts(1, 1.0, 0.9), 1: LabelFacts(1, 0.1, 0.1)},
        box_mm=(10.0, 10.0, 10.0),
        zeros=0.0,
        foreground=VALUES,
        overall=VALUES,
    )


def network(plan: Plan) -> GridUNet:
    with torch.device("meta"):
        return GridUNet(
            plan.dims,
            1,
            plan.network.classes,
            plan.network.features,
            plan.network.topology,
            pools=plan.network.pools,
            norm="instance",
            bias=False,
        )


@settings(max_examples=25, deadline=None)
@given(shape=shapes, spacing=spacings, classes=st.integers(2, 30), cases=st.integers(1, 500))
def test_every_plan_fits_its_network_and_its_budget(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], classes: int, cases: int
) -> None:
    plan = make_plan(facts(shape, spacing), classes, cases, 8 * GB)
    built = network(plan)
    assert built.geometry == plan.geometry
    assert built.geometry.output_size(plan.patch) == plan.patch
    bottom = [n // p for n, p in zip(plan.patch, plan.geometry.period, strict=True)]
    assert math.prod(bottom) > 1  # instance norm wants more than one voxel
    for n, period in zip(bottom, plan.geometry.period, strict=True):
        assert period == 1 or n >= SHORTEST
    assert 1 <= len(plan.network.pools) <= MAX_DEPTH
    assert plan.memory == training_bytes(plan.network, plan.patch, plan.batch) <= 8 * GB
    assert sorted(plan.axcodes) == ["A", "R", "S"]
    assert plan.epochs >= 50


@settings(max_examples=60, deadline=None)
@given(
    shape=shapes,
    spacing=spacings,
    budgets=st.tuples(st.floats(0.6, 40), st.floats(0.6, 40)).map(sorted),
)
def test_less_memory_never_gives_a_larger_patch(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], budgets: list[float]
) -> None:
    numbers = facts(shape, spacing)
    plans = []
    for budget in budgets:
        try:
            plans.append(make_plan(numbers, 2, 100, int(budget * GB)))
        except InputError:
            assert not plans  # what fits into less fits into more
    if len(plans) == 2:
        less, more = plans
        assert all(a <= b for a, b in zip(less.patch, more.patch, strict=True))
        assert less.patch < more.patch or less.batch <= more.batch


def test_isotropic_volumes_get_isotropic_patches_and_poolings() -> None:
    plan = make_plan(facts((320, 320, 280), (0.8, 0.8, 0.9)), 2, 100, 8 * GB)
    assert plan.spacing == (0.8, 0.8, 0.9)
    assert plan.network.pools == ((2, 2, 2),) * 4
    extent = [n * mm for n, mm in zip(plan.patch, plan.spacing, strict=True)]
    assert max(extent) / min(extent) < 1.3
    assert not plan.thick


def test_thick_slices_are_pooled_when_the_other_axes_have_caught_up() -> None:
    assert poolings((128, 128, 32), (0.8, 0.8, 5.0)) == (
        (2, 2, 1),
        (2, 2, 1),
        (2, 2, 2),
        (2, 2, 2),
    )


def test_an_axis_is_not_pooled_below_four_voxels() -> None:
    assert poolings((64, 64, 11), (1.0, 1.0, 1.0)) == ((2, 2, 2), (2, 2, 1), (2, 2, 1), (2, 2, 1))
    assert poolings((7, 7, 7), (1.0, 1.0, 1.0)) == ()


def test_thick_slices_are_resampled_to_the_tenth_percentile_but_no_finer_than_the_others() -> None:
    many = [(0.8, 0.8, 5.0)] * 8
    assert target_spacing(facts((9, 9, 9), *many, *[(0.8, 0.8, 2.5)] * 2)) == (0.8, 0.8, 2.5)
    assert target_spacing(facts((9, 9, 9), *many, *[(0.8, 0.8, 0.5)] * 2)) == (0.8, 0.8, 0.8)
    assert target_spacing(facts((9, 9, 9), (1.0, 1.0, 2.0), (1.0, 1.0, 2.0))) == (1.0, 1.0, 2.0)


@pytest.mark.parametrize(
    ("shape", "spacing", "axcodes"),
    [
        ((256, 256, 5), (1.0, 1.0, 6.0), "RAS"),
        ((7, 256, 256), (4.0, 1.0, 1.0), "ASR"),
        ((320, 11, 320), (0.5, 7.5, 0.5), "RSA"),
        ((200, 200, 1), (1.0, 1.0, 1.0), "RAS"),
    ],
)
def test_few_or_very_thick_slices_make_a_2d_network_across_them(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], axcodes: str
) -> None:
    plan = make_plan(facts(shape, spacing), 2, 100, 8 * GB)
    assert plan.dims == 2
    assert plan.axcodes == axcodes
    assert plan.spacing[2] == 0  # slices stay where they are


def test_twenty_six_slices_of_5_mm_make_a_3d_network() -> None:
    plan = make_plan(facts((164, 166, 26), (0.795, 0.795, 5.0)), 2, 100, 8 * GB)
    assert plan.dims == 3
    assert plan.thick
    assert plan.geometry.period[2] < plan.geometry.period[0]


def test_too_little_memory_for_unetpp_makes_a_unet_and_still_less_is_refused() -> None:
    numbers = facts((200, 200, 200), (1.0, 1.0, 1.0))
    topologies = {}
    for mb in range(500, 800, 5):
        try:
            topologies[mb] = make_plan(numbers, 40, 100, mb * 10**6).network.topology
        except InputError as error:
            assert "give more --memory" in str(error)  # noqa: PT017  the loop looks at every budget
    assert {"unet", "unet++"} == set(topologies.values())
    assert list(topologies.values()) == sorted(topologies.values(), key=["unet", "unet++"].index)


def kept_bytes(net: torch.nn.Module, image: torch.Tensor) -> int:
    """What autograd keeps of a pass, the weights aside."""
    kept: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in net.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        net(image)
    return sum(kept.values())


@pytest.mark.parametrize("topology", ["unet", "unet++"])
@pytest.mark.parametrize("pools", [((2, 2, 2),) * 2, ((2, 2, 1), (2, 2, 2), (2, 2, 2))])
def test_the_formula_counts_what_autograd_keeps(
    topology: str, pools: tuple[tuple[int, ...], ...]
) -> None:
    features = (8, 16, 32, 64)[: len(pools) + 1]
    described = Network(topology, pools, features, 2)
    net = GridUNet(
        3, 1, 2, features, topology, pools=pools, norm="instance", act="leakyrelu", bias=False
    )
    assert parameters(described) == pytest.approx(
        sum(p.numel() for p in net.parameters()), rel=0.01
    )
    image = torch.randn(1, 1, 32, 32, 16)
    # In float32 an activation takes 4 bytes, and the 8 of an index are two of them, not four.
    index = sum(
        features[level] * 2 / math.prod(map(math.prod, pools[: level + 1]))
        for level in range(len(pools))
    )
    expected = 4 * (activations(described) - index) * image.numel()
    assert kept_bytes(net, image) == pytest.approx(expected, rel=0.03)


def test_the_memory_of_a_grid_on_an_encoder_is_that_of_the_network_itself() -> None:
    planned = backbone.network("unetpp_resnet18", 2, 3)
    net = BackboneUNet(2, 1, 3, "resnet18", backbone.WIDTHS, "unet++")
    assert planned.heads == (1, 2, 3, 4)
    assert grid_geometry(planned.pools) == net.geometry
    assert parameters(planned) == sum(p.numel() for p in net.parameters())
    image = torch.randn(1, 1, 96, 128)
    assert kept_bytes(net, image) == pytest.approx(
        4 * activations(planned) * image.numel(), rel=0.06
    )


def test_a_plan_for_a_grid_on_an_encoder_keeps_to_its_period_and_to_the_memory() -> None:
    numbers = facts((150, 200, 170), (1.0, 1.0, 1.0))
    asked = partial(backbone.network, "unetpp_mednext_s", classes=2)
    sizes = []
    for budget in (40 * GB, 8 * GB, 4 * GB):
        plan = make_plan(numbers, 2, 100, budget, asked)
        assert plan.geometry.period == (16, 16, 16)
        assert all(n % 16 == 0 and n >= 32 for n in plan.patch)
        assert plan.memory <= budget
        sizes.append(math.prod(plan.patch))
    assert sizes == sorted(sizes, reverse=True)
    with pytest.raises(InputError, match="give more --memory"):
        make_plan(numbers, 2, 100, GB, asked)


def test_larger_maps_batches_and_classes_take_more() -> None:
    base = Network("unet++", ((2, 2, 2),) * 3, (16, 32, 64, 128), 3)
    size = (64, 64, 64)
    least = training_bytes(base, size, 2)
    assert training_bytes(base, size, 3) > least
    assert training_bytes(base, (64, 64, 72), 2) > least
    assert training_bytes(replace(base, classes=30), size, 2) > least
    assert training_bytes(replace(base, topology="unet"), size, 2) < least
