"""The window net of Cireşan et al. 2012: the contract, and one pass that equals all windows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from nestseg.inferers.overlap_tile import OverlapTileInferer
from nestseg.networks import ciresan_2012
from nestseg.networks.fovea import Fovea
from nestseg.networks.window import WindowNet, window_sizes

from . import contract
from .contract import Entry


def small(dims: int, window: int, convs: tuple[int, ...], **more: Any) -> Entry:
    config = {
        "spatial_dims": dims,
        "in_channels": 2,
        "out_channels": 3,
        "window": window,
        "convs": convs,
        "features": 2,
        "hidden": 3,
    }
    return Entry(WindowNet, config | more, exports=dims == 2)


@pytest.mark.parametrize("law", contract.LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("entry", [small(2, 13, (4, 3)), small(3, 7, (2,))], ids=str)
def test_a_window_net_keeps_the_contract(law: Callable[[Entry], None], entry: Entry) -> None:
    law(entry)


@pytest.mark.parametrize(
    ("count", "config"),
    [
        # N4 as in a public tutorial of its layers; the others are examples of 65-voxel windows.
        (219_290, {}),
        (270_746, {"window": 65, "convs": (5, 5, 5)}),
        (335_978, {"window": 65, "convs": (4, 4, 5)}),
    ],
    ids=str,
)
def test_a_window_net_has_as_many_parameters_as_its_table(
    count: int, config: dict[str, Any]
) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in WindowNet(**config).parameters()) == count
        if not config:
            assert sum(p.numel() for p in ciresan_2012().parameters()) == count


def test_the_maps_of_n4_have_the_sizes_of_the_papers_table() -> None:
    assert window_sizes(95, (4, 5, 4, 4)) == [95, 46, 21, 9, 3]
    seen: list[int] = []
    with torch.device("meta"):
        network = ciresan_2012().eval()
        for conv in network.convs:
            conv.register_forward_hook(lambda _m, _x, y: seen.append(y.shape[2]))
        assert network(torch.empty(1, 1, 95, 95)).shape == (1, 2, 1, 1)
    assert seen == [92, 42, 18, 6, 1, 1]


def window_by_window(network: WindowNet, image: Tensor) -> Tensor:
    size = network.geometry.axes[0].minimum
    rows = []
    places = list(product(*(range(n - size + 1) for n in image.shape[2:])))
    for place in places:
        patch = image
        for dim, first in enumerate(place, start=2):
            patch = patch.narrow(dim, first, size)
        rows.append(network(patch).flatten(1))
    shape = [n - size + 1 for n in image.shape[2:]]
    return torch.stack(rows, dim=-1).reshape(*rows[0].shape, *shape)


@pytest.mark.parametrize(
    ("dims", "window", "convs"),
    [
        (2, 13, (4, 3)),  # 13 → 5 → 1
        (2, 15, (3, 3)),  # an odd map, of 13 voxels, is pooled
        (2, 31, (3, 2, 2)),  # three times, and several sizes
        (2, 65, (5, 5, 5)),
        (3, 9, (3, 2)),
        (3, 7, (2,)),
    ],
    ids=str,
)
def test_one_dilated_pass_equals_fragments_equals_window_by_window(
    dims: int, window: int, convs: tuple[int, ...]
) -> None:
    network = small(dims, window, convs).network()
    torch.manual_seed(1)
    shape = (window + 4, window + 1, window + 2)[:dims]
    x = torch.randn(2, 2, *shape, dtype=torch.float64)
    patches = window_by_window(network, x)
    assert patches.std() > 0
    torch.testing.assert_close(network.forward_dense(x), patches, rtol=0, atol=1e-12)
    torch.testing.assert_close(network.forward_fragments(x), patches, rtol=0, atol=1e-12)


def test_a_patch_takes_the_cheap_way_and_the_dense_way_gives_the_same() -> None:
    network = small(2, 15, (3, 3)).network()
    x = torch.randn(3, 2, 15, 15, dtype=torch.float64)
    torch.testing.assert_close(network.forward_dense(x), network(x), rtol=0, atol=1e-12)
    assert torch.equal(network.forward_patches(x), network(x))


def test_an_image_smaller_than_a_window_is_refused() -> None:
    network = small(2, 15, (3, 3)).network()
    with pytest.raises(ValueError, match="the nearest sizes that do: 15"):
        network(torch.zeros(1, 2, 20, 14, dtype=torch.float64))


def test_a_window_that_is_even_or_too_small_is_refused() -> None:
    for window in (94, 9):
        with pytest.raises(ValueError, match="must be odd"):
            WindowNet(window=window)


# --- foveation and non-uniform sampling --------------------------------------------------------


@pytest.mark.parametrize("dims", [2, 3])
def test_a_fovea_leaves_the_centre_of_the_field_as_it_is(dims: int) -> None:
    fovea = Fovea(dims, window=13, field=21, blur=2, sharp=0.5)
    x = torch.randn(2, 3, *(21,) * dims, dtype=torch.float64)
    y = fovea(x)
    assert y.shape == (2, 3, *(13,) * dims)
    centre_in, centre_out = (slice(7, 14),) * dims, (slice(3, 10),) * dims
    torch.testing.assert_close(y[(..., *centre_out)], x[(..., *centre_in)], rtol=0, atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_non_uniform_sampling_reaches_the_rim_in_growing_steps(dims: int) -> None:
    fovea = Fovea(dims, window=13, field=21, sharp=0.5).double()
    ramp = torch.arange(21.0, dtype=torch.float64)
    for axis in range(dims):
        shape = [1] * (dims + 2)
        shape[2 + axis] = 21
        y = fovea(ramp.reshape(shape).expand(1, 1, *(21,) * dims))
        line = y.movedim(2 + axis, -1)[(0, 0, *(6,) * (dims - 1))]
        assert line[[0, -1]].tolist() == pytest.approx([0, 20], abs=1e-4)
        steps = line[6:].diff()
        assert steps[:3].tolist() == pytest.approx([1, 1, 1], abs=1e-4)
        assert (steps[2:].diff() > 0).all()


@pytest.mark.parametrize("dims", [2, 3])
def test_foveation_blurs_more_towards_the_rim_and_keeps_the_mean(dims: int) -> None:
    fovea = Fovea(dims, window=25, blur=3, sharp=0.2)
    flat = torch.full((1, 1, *(25,) * dims), 7.0)
    torch.testing.assert_close(fovea(flat), flat)
    torch.manual_seed(0)
    y = fovea(torch.randn(64, 1, *(25,) * dims))
    spread = y.std(dim=(0, 1))[(slice(12, 24), *(12,) * (dims - 1))]
    assert spread[0] > 0.8
    assert spread[-1] < 0.35
    assert (spread[3:].diff() < 0.05).all()


def test_a_net_with_a_fovea_sees_windows_and_refuses_dense_evaluation() -> None:
    fovea = Fovea(2, window=13, field=17, blur=1)
    network = small(2, 13, (4, 3), fovea=fovea).network()
    assert network.geometry.margin == (16, 16)
    assert network(torch.randn(4, 2, 17, 17, dtype=torch.float64)).shape == (4, 3, 1, 1)
    with pytest.raises(ValueError, match="no dense evaluation"):
        network(torch.randn(1, 2, 18, 17, dtype=torch.float64))


def test_a_net_with_a_fovea_is_scripted_and_has_no_more_weights() -> None:
    plain = small(2, 13, (4, 3)).network()
    network = small(2, 13, (4, 3), fovea=Fovea(2, 13, 17, blur=1)).network()
    assert network.state_dict().keys() == plain.state_dict().keys()
    x = torch.randn(4, 2, 17, 17, dtype=torch.float64)
    torch.testing.assert_close(torch.jit.script(network)(x), network(x))


@pytest.mark.parametrize(
    "wrong", [{"window": 12}, {"field": 11}, {"field": 14}, {"blur": -1}, {"sharp": 1.0}], ids=str
)
def test_a_fovea_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be odd"):
        Fovea(**({"spatial_dims": 2, "window": 13} | wrong))


# --- with the inferer --------------------------------------------------------------------------


@pytest.mark.parametrize("fovea", [None, Fovea(2, 13, 17, blur=1)], ids=["plain", "fovea"])
def test_the_inferer_classifies_every_voxel_with_mirrored_borders(fovea: Fovea | None) -> None:
    network = small(2, 13, (4, 3), fovea=fovea).network()
    x = torch.randn(1, 2, 9, 11, dtype=torch.float64)
    half = network.geometry.margin[0] // 2
    mirrored = torch.nn.functional.pad(x, [half] * 4, mode="reflect")
    expected = window_by_window(network, mirrored)
    tile = 17 if fovea else 20
    out = OverlapTileInferer((tile, tile), sw_batch_size=8)(x, network)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
