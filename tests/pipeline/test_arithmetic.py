"""Counted arithmetic against what torch counts, and counted memory against what it allocates."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nestseg.inferers import OverlapTileInferer
from nestseg.inferers.tile_choice import best_tile
from nestseg.networks import GridUNet
from nestseg.networks.arithmetic import Arithmetic
from nestseg_prep.grid import tile_grid

from .held import Held

NETWORKS: list[dict[str, Any]] = [
    {"spatial_dims": 2, "features": (4, 8, 16), "padding": "valid"},
    {"spatial_dims": 3, "features": (3, 5), "padding": "valid", "norm": "batch"},
    {"spatial_dims": 3, "features": (4, 6, 9), "topology": "unet++", "norm": "instance"},
    {"spatial_dims": 2, "features": (4, 8, 16), "topology": "unet+", "in_channels": 3},
    {"spatial_dims": 2, "features": (4, 8, 16), "topology": "unet_e", "head_kernel_size": 3},
    {"spatial_dims": 2, "features": (4, 8, 16), "topology": "unet++", "padding": "valid"},
    {
        "spatial_dims": 3,
        "features": (4, 6, 9),
        "mid_features": (2, 3, 4),
        "up_channels": (6, 9),
        "pools": ((1, 2, 2), (2, 2, 1)),
        "up_kernel_size": 4,
        "out_channels": 5,
    },
]


def counted(network: GridUNet) -> Arithmetic:
    return Arithmetic(network.config, network.levels)


def shape_for(network: GridUNet) -> tuple[int, ...]:
    """An admissible input of unequal sides."""
    dims = len(network.geometry.axes)
    return network.geometry.input_size((21, 30, 13)[:dims])


@pytest.mark.parametrize("arguments", NETWORKS, ids=str)
def test_multiplications_are_those_that_torch_counts(arguments: dict[str, Any]) -> None:
    with torch.device("meta"):
        network = GridUNet(**arguments).eval()
        shape = shape_for(network)
        image = torch.empty(1, network.config["in_channels"], *shape)
    with FlopCounterMode(display=False) as counter:
        network(image)
    assert 2 * counted(network).macs(shape) == counter.get_total_flops()


@pytest.mark.parametrize("arguments", NETWORKS, ids=str)
def test_values_held_at_once_are_those_that_torch_allocates(arguments: dict[str, Any]) -> None:
    network = GridUNet(**arguments).eval()
    shape = shape_for(network)
    image = torch.zeros(1, network.config["in_channels"], *shape)
    with torch.no_grad(), Held(image) as held:
        network(image)
    assert counted(network).values(shape) == held.peak


def valid_unet(**arguments: Any) -> GridUNet:
    """The U-Net of 2015, without its weights' memory."""
    with torch.device("meta"):
        return GridUNet(**({"padding": "valid"} | arguments)).eval()


@pytest.mark.parametrize("side", [512, 2048])
@pytest.mark.parametrize("memory_mb", [1000, 2000, 4000])
def test_the_chosen_tile_costs_little_more_than_one_pass(side: int, memory_mb: int) -> None:
    network = valid_unet()
    geometry, cost = network.geometry, counted(network)
    at_once = cost.macs(geometry.input_size((side, side)))
    chosen = best_tile(geometry, cost, (side, side), memory_mb * 1e6 / 4)
    tiles = tile_grid(geometry, (side, side), chosen.tile).tiles
    assert len(tiles) == chosen.tiles
    assert len(tiles) * cost.macs(chosen.tile) == chosen.macs
    assert at_once <= chosen.macs <= 1.25 * at_once
    assert 4 * cost.values(chosen.tile) <= memory_mb * 1e6
    inferer = OverlapTileInferer((572, 572), memory_mb=memory_mb)
    assert inferer.tiling(network, (side, side)).roi_size == chosen.tile
    usual = tile_grid(geometry, (side, side), (572, 572)).tiles
    assert len(usual) * cost.macs((572, 572)) > 1.5 * at_once


@pytest.mark.parametrize("memory_mb", [0.3, 1, 5])
def test_no_admissible_tile_within_the_memory_needs_less_arithmetic(memory_mb: float) -> None:
    network = valid_unet(features=(4, 8, 16))
    geometry, cost, shape = network.geometry, counted(network), (90, 61)
    values = memory_mb * 1e6 / 4
    chosen = best_tile(geometry, cost, shape, values)
    every = []
    smallest, largest = geometry.input_size(geometry.period), geometry.input_size(shape)
    for height in range(smallest[0], largest[0] + 1, 4):
        for width in range(smallest[1], largest[1] + 1, 4):
            if cost.values((height, width)) <= values:
                grid = tile_grid(geometry, shape, (height, width))
                every.append(len(grid.tiles) * cost.macs((height, width)))
    assert chosen.macs == min(every)


def test_without_room_for_any_tile_the_least_is_taken() -> None:
    network = valid_unet(features=(4, 8, 16))
    geometry, cost = network.geometry, counted(network)
    chosen = best_tile(geometry, cost, (90, 61), 1)
    assert chosen.tile == geometry.input_size(geometry.period)
    assert chosen.tiles == math.prod(-(-n // 4) for n in (90, 61))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_tile_of_the_budget_gives_the_result_of_any_other(dims: int) -> None:
    torch.manual_seed(0)
    network = GridUNet(dims, 1, 2, (3, 4), padding="valid").double().eval()
    image = torch.randn(1, 1, *(33, 14, 9)[:dims], dtype=torch.float64)
    with torch.no_grad():
        expected = OverlapTileInferer((20, 20, 20)[:dims])(image, network)
        for memory_mb in (0.05, 0.4, 100):
            inferer = OverlapTileInferer((20, 20, 20)[:dims], memory_mb=memory_mb)
            for one in (inferer, inferer.gentler(network.geometry)):
                torch.testing.assert_close(one(image, network), expected, rtol=0, atol=1e-12)
    assert inferer.tiling(network, image.shape[2:]).roi_size == network.geometry.input_size(
        image.shape[2:]
    )


def test_the_window_of_a_same_network_stays_and_memory_bounds_the_pass() -> None:
    same = GridUNet(2, 1, 2, (3, 4)).eval()
    values = counted(same).values((64, 64))
    for fitting in (1, 3, 7):
        inferer = OverlapTileInferer((64, 64), 0.5, 8, memory_mb=4e-6 * values * (fitting + 0.5))
        tiling = inferer.tiling(same, (512, 512))
        assert (tiling.roi_size, tiling.batch) == ((64, 64), fitting)
        assert inferer.tiling(same, (512, 512), images=2).batch == max(1, fitting // 2)
    assert OverlapTileInferer((64, 64), 0.5, 8, memory_mb=1e-3).tiling(same, (9, 9)).batch == 1
    assert OverlapTileInferer((64, 64), 0.5, 8, memory_mb=1e6).tiling(same, (9, 9)).batch == 8


def test_networks_that_cannot_be_counted_keep_tile_and_pass() -> None:
    class Unknown(nn.Module):
        geometry = GridUNet(2, 1, 2, (3, 4), padding="valid").geometry

    tiling = OverlapTileInferer((64, 64), 0.5, 8, memory_mb=1e-3).tiling(Unknown(), (512, 512))
    assert (tiling.roi_size, tiling.batch) == ((64, 64), 8)
