"""Every network of the family, in every dimension it declares, keeps the contract."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nestseg.networks import FCN, NETWORKS, ResFCN, SegmentationNetwork, U2Net, WindowNet
from nestseg.networks.u2net import FULL

from . import contract
from .contract import Entry, named

DEPTH_4 = ("x_0_1", "x_0_2", "x_0_3", "x_1_1", "x_1_2", "x_2_1")

REACH = {depth: 6 * 2**depth - 4 + 2**depth for depth in (1, 2, 3, 4)}
"""Half the margin of the valid network, and a period: pools and up-convolutions are not centred."""

TINY_FCN = {"build": FCN, "features": (2, 2, 3, 3, 4), "hidden": 5, "dropout": 0.0}
TINY_U2NET = {
    "build": U2Net,
    "stages": {name: stage._replace(mid=2, out=3) for name, stage in FULL.items()},
    "heads": 7,
}

TINY: dict[str, dict[str, Any]] = {
    "ciresan_2012": {"build": WindowNet, "features": 2, "hidden": 3},
    "dlinknet101_2018": {"width": 2},
    "dlinknet34_2018": {"width": 4, "exports": True, "scripts": True},
    "dlinknet50_2018": {"width": 2},
    "fcn16s_2015": {**TINY_FCN, "stride": 16},
    "fcn32s_2015": {**TINY_FCN, "stride": 32},
    "fcn8s_2015": {**TINY_FCN, "stride": 8},
    "linknet_2017": {"width": 4, "exports": True, "scripts": True},
    "linknet_2017_no_bypass": {"width": 4},
    "linknet_deepglobe_2018": {"width": 4},
    "resfcn_2016": {"build": ResFCN, "features": 2, "depths": (1, 1, 1)},
    "u2net_2020": TINY_U2NET,
    "u2net_lite_2020": TINY_U2NET,
    "unet3d_2016": {"width": 4, "padding": "same"},
    "unet3d_genesis_2019": {"width": 4},
    "unet_2015": {"width": 2},
    "unet_2015_half": {"width": 2},
    "unet_2015_quarter": {"width": 2},
    "unet_2015_release": {"width": 2, "scripts": True, "exports": True},
    "unet_deepglobe_2018": {"width": 2},
    "unet_e_2020": {"width": 2, "heads": 4, "idle": frozenset(DEPTH_4), "reach": REACH[4]},
    "unet_keras": {"width": 2, "reach": REACH[4]},
    "unet_l1": {"width": 2, "reach": REACH[1]},
    "unet_l2": {"width": 2, "reach": REACH[2]},
    "unet_l3": {"width": 2, "reach": REACH[3]},
    "unet_l4": {"width": 2, "reach": REACH[4]},
    "unet_plus_2020": {"width": 2, "heads": 4, "reach": REACH[4]},
    "unetpp_2018": {"width": 2, "heads": 4, "reach": REACH[4]},
    "unetpp_monai": {"features": (2, 2, 4, 4, 6), "heads": 4},
    "wide_unet_2018": {"width": 2, "reach": REACH[4]},
}
"""Arguments that make a network small, and the fields of its entry; ``build``: the class itself,
where the builder has no argument for the width."""

NARROW: dict[str, dict[str, Any]] = {
    **{name: {"width": 2} for name in ("resnet18", "resnet34", "resnet50", "resnet101")},
    "medicalnet50": {"width": 2},
    "vgg16_bn": {"width": 2},
    "densenet121": {"width": 4},
    "efficientnet_b0": {},
    "mednext_s": {"width": 2},
}
"""Encoders that a grid is named on, with what makes them small."""

for topology, heads in (("unet", 1), ("unet_e", 4), ("unet_plus", 4), ("unetpp", 4)):
    for encoder, narrow in NARROW.items():
        TINY[f"{topology}_{encoder}"] = {**narrow, "features": (2, 3, 4, 5), "heads": heads}
        if topology == "unet_e":
            TINY[f"{topology}_{encoder}"]["idle"] = frozenset(DEPTH_4)
TINY["unetpp_resnet18"] |= {"exports": True, "scripts": True}


def entry(name: str, dims: int) -> Entry:
    fields = {"scripts": False, **TINY[name]}
    if dims == 3 and name.startswith("unet_2015"):
        fields["padding"] = "same"  # 188³ voxels, the smallest that is valid, take seconds
    if dims == 3 and fields.get("reach", 0) > REACH[2]:
        del fields["reach"]
    if dims == 3 and name != "linknet_2017":  # one in 3D is enough: each takes a second or two
        fields |= {"exports": False, "scripts": False}
    return named(name, dims, **fields)


ENTRIES = [entry(name, dims) for name, net in NETWORKS.items() for dims in net.spatial_dims]
OTHER_TOPOLOGIES = {
    f"{topology}_{encoder}"
    for topology in ("unet", "unet_e", "unet_plus")
    for encoder in NARROW
    if encoder != "resnet18"
}
"""Each topology runs on one encoder and each encoder in UNet++; the others differ by nothing."""
RUN = [entry for entry in ENTRIES if entry.name.rpartition("-")[0] not in OTHER_TOPOLOGIES]


@pytest.mark.parametrize("law", contract.LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("entry", RUN, ids=str)
def test_a_network_of_the_family_keeps_the_contract(
    law: Callable[[Entry], None], entry: Entry
) -> None:
    law(entry)


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - OTHER_TOPOLOGIES))
def test_the_builder_makes_what_the_contract_ran_over(name: str) -> None:
    for dims in NETWORKS[name].spatial_dims:
        with torch.device("meta"):
            network = NETWORKS[name].build(dims)
            small = entry(name, dims).network()
        assert isinstance(network, nn.Module)
        assert isinstance(network, SegmentationNetwork)
        assert type(network) is type(small)
        assert len(network.geometry.axes) == dims


IN_THE_FAST_RUN = {("unetpp_2018", 2), ("unet3d_2016", 3), ("linknet_2017", 2)}

EXPORTED = [
    pytest.param(
        name,
        dims,
        marks=() if (name, dims) in IN_THE_FAST_RUN else pytest.mark.slow,
        id=f"{name}-{dims}d",
    )
    for name, net in NETWORKS.items()
    for dims in net.spatial_dims
]
"""All entries; one of each kind where seconds count."""


@pytest.mark.parametrize(("name", "dims"), EXPORTED)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_network_computes_the_same_exported_and_in_onnx(name: str, dims: int) -> None:
    contract.its_export_computes_the_same(replace(entry(name, dims), exports=True))
    contract.its_onnx_graph_computes_the_same(entry(name, dims))


def test_the_contract_covers_the_whole_family() -> None:
    assert set(TINY) == set(NETWORKS)
    assert len(NETWORKS) == 66
    assert len(ENTRIES) == len(EXPORTED) == 113
    assert len(RUN) == 74
    assert list(NETWORKS) == sorted(NETWORKS)


def test_a_dimension_that_is_not_declared_is_refused() -> None:
    with pytest.raises(ValueError, match=r"spatial_dims must be one of \(3,\), got 2"):
        NETWORKS["unet3d_2016"].build(2)


def test_the_command_prints_a_table_with_every_network_and_its_parameters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    runpy.run_module("nestseg.networks", run_name="__main__")
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head == "| network | paper | parameters in 2D | in 3D |"
    assert [row.split("`")[1] for row in rows] == list(NETWORKS)
    assert "| `unet_2015` | Ronneberger et al. 2015 | 31,030,658 | 90,292,738 |" in rows
    assert "| `unet3d_2016` | Çiçek et al. 2016 | – | 19,069,955 |" in rows
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert "\n".join(rows) in readme, "run `python -m nestseg.networks` and put it into README.md"
