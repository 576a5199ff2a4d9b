"""Tiles equal one pass over the whole image, whatever the image, the tile and the batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.meta_tensor import MetaTensor
from torch import Tensor, nn

from nestseg.inferers import OverlapTileInferer
from nestseg.networks import GridUNet
from nestseg_prep.geometry import AxisGeometry, Geometry

pytestmark = pytest.mark.usefixtures("no_grad")


@pytest.fixture(scope="module")
def no_grad():
    with torch.no_grad():
        yield


@cache
def unet(dims: int, depth: int, padding: str = "valid", topology: str = "unet++") -> GridUNet:
    torch.manual_seed(0)
    network = GridUNet(
        spatial_dims=dims,
        in_channels=1,
        out_channels=2,
        features=range(3, depth + 4),
        topology=topology,
        padding=padding,
        act=("leakyrelu", {"negative_slope": 0.2}),  # no unit dies: every voxel tells
    )
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
    return network.double().eval()


def noise(*shape: int) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(shape, dtype=torch.float64)


def mirrored(image: Tensor, padding: Sequence[tuple[int, int]]) -> Tensor:
    return torch.from_numpy(np.pad(image.numpy(), [(0, 0), (0, 0), *padding], mode="reflect"))


def one_pass(network: GridUNet, image: Tensor) -> Tensor:
    """The whole image at once: mirrored by half the margin, and on to an admissible size."""
    shape = image.shape[2:]
    n = network.geometry.input_size(shape)
    before = [margin // 2 for margin in network.geometry.margin]
    padding = [(b, whole - b - size) for b, whole, size in zip(before, n, shape, strict=True)]
    return network(mirrored(image, padding))[(..., *map(slice, shape))]


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("roi", [(100, 100), (108, 124), (117, 100), (400, 400)], ids=str)
@pytest.mark.parametrize("shape", [(37, 26), (50, 3), (1, 1), (12, 12)], ids=str)
def test_tiles_equal_one_pass_in_2d(shape: tuple[int, ...], roi: tuple[int, ...]) -> None:
    """At depth 3: margin 88, period 8; all images are smaller than the margin."""
    image = noise(2, 1, *shape)
    logits = OverlapTileInferer(roi)(image, unet(2, 3))
    assert logits.std() > 0.01
    close(logits, one_pass(unet(2, 3), image))


def test_tiles_equal_one_pass_over_an_image_larger_than_the_margin() -> None:
    image = noise(1, 1, 201, 97)
    for roi in ((44, 60), (76, 76), (90, 240)):
        close(OverlapTileInferer(roi)(image, unet(2, 2)), one_pass(unet(2, 2), image))


@pytest.mark.parametrize("roi", [(18, 20, 24), (26, 26, 26), (64, 20, 99)], ids=str)
@pytest.mark.parametrize("shape", [(7, 10, 5), (21, 2, 9), (1, 3, 2)], ids=str)
def test_tiles_equal_one_pass_in_3d(shape: tuple[int, ...], roi: tuple[int, ...]) -> None:
    image = noise(1, 1, *shape)
    close(OverlapTileInferer(roi)(image, unet(3, 1)), one_pass(unet(3, 1), image))


def test_tiles_equal_one_pass_in_3d_at_depth_2() -> None:
    image = noise(1, 1, 6, 11, 3)
    close(OverlapTileInferer((48, 48, 44))(image, unet(3, 2)), one_pass(unet(3, 2), image))


@settings(deadline=None, max_examples=30)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 80), st.integers(1, 80)),
    st.integers(1, 7),
)
def test_tiles_equal_one_pass_at_any_size(
    shape: tuple[int, int], roi: tuple[int, int], sw_batch_size: int
) -> None:
    """At depth 1, where the smallest tile can be laid: any region of interest will do."""
    image = noise(1, 1, *shape)
    inferer = OverlapTileInferer(roi, sw_batch_size=sw_batch_size)
    close(inferer(image, unet(2, 1)), one_pass(unet(2, 1), image))


def tiled_by_hand(network: GridUNet, image: Tensor, tile: int, stride: int) -> Tensor:
    (axis, _), (height, width) = network.geometry.axes, image.shape[2:]
    out, half = axis.output_size(tile), axis.margin // 2
    padded = mirrored(image, [(half, half + stride + out)] * 2)
    logits = torch.empty(1, 2, height + stride + out, width + stride + out, dtype=image.dtype)
    for i in range(0, height, stride):
        for j in range(0, width, stride):
            part = network(padded[..., i : i + tile, j : j + tile])
            logits[..., i : i + out, j : j + out] = part
    return logits[..., :height, :width]


def test_a_stride_out_of_phase_gives_another_result() -> None:
    """100 → 12 at depth 3: the natural stride 12 is no multiple of 8, as 388 is none of 16."""
    network, image = unet(2, 3), noise(1, 1, 40, 40)
    whole = one_pass(network, image)
    assert network.geometry.output_size((100, 100)) == (12, 12)
    close(tiled_by_hand(network, image, tile=100, stride=8), whole)
    unaligned = tiled_by_hand(network, image, tile=100, stride=12)
    close(unaligned[..., :12, :12], whole[..., :12, :12])  # the first tile is in phase
    assert (unaligned - whole).abs().max() > 0.1 * whole.abs().max()


def test_a_region_too_small_to_step_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="smallest tile that can be laid is 100"):
        OverlapTileInferer((99, 99))(noise(1, 1, 20, 20), unet(2, 3))


def test_an_image_without_voxels_is_refused() -> None:
    with pytest.raises(ValueError, match="no voxels"):
        OverlapTileInferer((100, 100))(noise(1, 1, 0, 20), unet(2, 3))


@pytest.mark.parametrize("shape", [(32, 48), (29, 41), (3, 5), (1, 1)], ids=str)
def test_an_image_that_fits_a_same_window_takes_one_padded_pass(shape: tuple[int, int]) -> None:
    network, image = unet(2, 3, "same"), noise(2, 1, *shape)
    missing = [-n % 8 for n in shape]
    padding = [(m // 2, m - m // 2) for m in missing]
    inner = (..., *(slice(b, b + n) for (b, _), n in zip(padding, shape, strict=True)))
    expected = network(mirrored(image, padding))[inner]
    torch.testing.assert_close(
        OverlapTileInferer((35, 48))(image, network), expected, rtol=0, atol=1e-6
    )


class PointWise(nn.Module):
    """Maps each voxel by itself; admits multiples of 4 only."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.geometry = Geometry((AxisGeometry(0, 4, 0, 4),) * dims)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        self.geometry.output_size(x.shape[2:])
        return torch.cat([x * scale, torch.ones_like(x), -3.5 * torch.ones_like(x)], dim=1)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 33), st.integers(4, 24)), min_size=2, max_size=3),
    st.sampled_from((0.0, 0.25, 0.5, 0.75)),
    st.integers(1, 3),
)
def test_blended_windows_keep_constants_and_voxels(
    sizes: list[tuple[int, int]], overlap: float, sw_batch_size: int
) -> None:
    shape, roi = zip(*sizes, strict=True)
    image = noise(1, 1, *shape)
    inferer = OverlapTileInferer(roi, overlap=overlap, sw_batch_size=sw_batch_size)
    logits = inferer(image, PointWise(len(shape)))
    expected = torch.cat([image, torch.ones_like(image), -3.5 * torch.ones_like(image)], dim=1)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_the_number_of_tiles_per_pass_does_not_change_the_result(padding: str) -> None:
    image, network = noise(2, 1, 30, 45), unet(2, 2, padding)
    roi = (52, 52) if padding == "valid" else (16, 16)
    once = OverlapTileInferer(roi)(image, network)
    for sw_batch_size in (2, 5, 1000):
        again = OverlapTileInferer(roi, sw_batch_size=sw_batch_size)(image, network)
        torch.testing.assert_close(again, once, rtol=0, atol=1e-6)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_each_image_of_a_batch_is_segmented_by_itself(padding: str) -> None:
    images, network = noise(3, 1, 30, 21), unet(2, 2, padding)
    inferer = OverlapTileInferer((60, 52) if padding == "valid" else (16, 16), sw_batch_size=2)
    alone = torch.cat([inferer(image[None], network) for image in images])
    torch.testing.assert_close(inferer(images, network), alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_a_meta_tensor_comes_back_with_its_affine(padding: str) -> None:
    affine = torch.tensor(
        [[0.0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 3, 11], [0, 0, 0, 1]], dtype=torch.float64
    )
    voxels, network = noise(1, 1, 10, 9, 7), unet(3, 1, padding)
    image = MetaTensor(voxels, affine=affine, meta={"filename_or_obj": "case"})
    inferer = OverlapTileInferer((20, 20, 20))
    logits = inferer(image, network)
    assert isinstance(logits, MetaTensor)
    assert torch.equal(logits.affine, affine)
    assert logits.meta["filename_or_obj"] == "case"
    plain = inferer(voxels, network)
    assert not isinstance(plain, MetaTensor)
    assert torch.equal(logits.as_tensor(), plain)


class Wrapped(nn.Module):
    """As torch's data-parallel modules do it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_a_wrapped_network_is_run_like_the_network(padding: str) -> None:
    image, network, inferer = noise(1, 1, 30, 21), unet(2, 2, padding), OverlapTileInferer((52, 52))
    assert torch.equal(inferer(image, Wrapped(network)), inferer(image, network))


def test_further_arguments_reach_the_network() -> None:
    image = noise(1, 1, 9, 8)
    logits = OverlapTileInferer((8, 8))(image, PointWise(2), scale=3.0)
    torch.testing.assert_close(logits[:, :1], 3 * image, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_2d_network_segments_a_volume_slice_by_slice(padding: str) -> None:
    network = unet(2, 2, padding)
    inferer = OverlapTileInferer((60, 60))
    volume = noise(2, 1, 37, 41, 3)
    together = inferer(volume, network)
    assert together.shape == (2, 2, 37, 41, 3)
    for k in range(3):
        close(together[..., k], inferer(volume[..., k], network))
