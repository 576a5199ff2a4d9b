"""What a declared background spares, and that it changes nothing else: the rule, held exactly."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import max_pool3d

from nestseg.bundle import maps
from nestseg.inferers import Answers, OverlapTileInferer
from nestseg.inferers.batching import batch_size
from nestseg.networks import GridUNet
from nestseg_prep.geometry import Geometry

pytestmark = pytest.mark.usefixtures("no_grad")
AIR = -2.0


@pytest.fixture(scope="module")
def no_grad():
    with torch.no_grad():
        yield


@cache
def network(dims: int, padding: str, norm: str | None = None) -> GridUNet:
    torch.manual_seed(0)
    net = GridUNet(dims, 1, 3, (3, 4), "unet++", padding=padding, norm=norm)
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
    return net.double().eval()


class Counted(nn.Module):
    """A network that writes down the shape of each pass."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.geometry = inner, inner.geometry
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.shapes.append(tuple(x.shape))
        return self.inner(x)


def scattered(shape: tuple[int, ...], blobs: list[tuple[int, ...]], seed: int) -> Tensor:
    """Air with noise below the limit, and small blobs of body."""
    rng = np.random.default_rng(seed)
    image = AIR - rng.random(shape)
    for blob in blobs:
        corner = [b % n for b, n in zip(blob, shape, strict=True)]
        place = tuple(slice(c, c + 3) for c in corner)
        image[place] = rng.normal(0, 1, image[place].shape).clip(AIR + 0.1)
    return torch.from_numpy(image)[None, None]


def is_blank(logits: Tensor) -> Tensor:
    """Where the logits are those of skipped background."""
    out: Tensor = (logits[0, 0] == 100) & (logits[0, 1:] == 0).all(dim=0)
    return out


SHAPES = st.tuples(st.integers(3, 20), st.integers(2, 9), st.integers(3, 16))
BLOBS = st.lists(st.tuples(*[st.integers(0, 24)] * 3), max_size=3)
BATCHES = st.integers(1, 4)


@settings(deadline=None, max_examples=15)
@given(SHAPES, BLOBS, st.integers(0, 9), BATCHES)
def test_a_valid_network_is_computed_wherever_it_sees_body(shape, blobs, seed, batch) -> None:
    image, net = scattered(shape, blobs, seed), network(3, "valid")
    margin = net.geometry.margin[0]
    plain = OverlapTileInferer((26, 22, 24))(image, net)
    ruled = OverlapTileInferer((26, 22, 24), 0.5, batch, AIR)(image, net)
    blank = is_blank(ruled)
    torch.testing.assert_close(ruled[0][:, ~blank], plain[0][:, ~blank], rtol=0, atol=1e-12)
    body = (image > AIR).double()
    reached = max_pool3d(body, margin + 1, stride=1, padding=margin // 2)[0, 0] > 0
    assert not (blank & reached).any()


@settings(deadline=None, max_examples=15)
@given(SHAPES, BLOBS, st.integers(0, 9), st.sampled_from((0.25, 0.5)), BATCHES)
def test_windows_that_are_the_same_give_the_same_bit_for_bit(
    shape, blobs, seed, overlap, batch
) -> None:
    """Body in two opposite corners: the windows are those of the whole image."""
    corners = [(0, 0, 0), tuple(n - 1 for n in shape)]
    image, net = scattered(shape, blobs + corners, seed), Counted(network(3, "same", "instance"))
    plain = OverlapTileInferer((8, 6, 8), overlap, batch)(image, net)
    all_passes = len(net.shapes)
    net.shapes.clear()
    ruled = OverlapTileInferer((8, 6, 8), overlap, 1, AIR)(image, net)
    blank = is_blank(ruled)
    if batch == 1:
        assert torch.equal(ruled[0][:, ~blank], plain[0][:, ~blank])
        assert len(net.shapes) <= all_passes
    torch.testing.assert_close(ruled[0][:, ~blank], plain[0][:, ~blank], rtol=0, atol=1e-12)
    assert not (blank & (image[0, 0] > AIR)).any()
    assert len(set(net.shapes)) == 1


@settings(deadline=None, max_examples=15)
@given(
    st.lists(st.tuples(*[st.integers(10, 18)] * 3), min_size=1, max_size=3),
    st.integers(0, 9),
    st.tuples(*[st.integers(0, 3)] * 6),
)
def test_more_air_around_a_body_changes_nothing(blobs, seed, more) -> None:
    """Instance norm sees the whole window, so equal values mean equal windows."""
    net, inferer = network(3, "same", "instance"), OverlapTileInferer((8, 6, 8), 0.5, 1, AIR)
    near = scattered((30, 30, 30), blobs, seed)
    far = torch.full((1, 1, *(30 + 2 * (more[k] + more[k + 3]) for k in range(3))), AIR).double()
    inside = (..., *(slice(2 * m, 2 * m + 30) for m in more[:3]))
    far[inside] = near
    found = inferer(far, net)
    torch.testing.assert_close(found[inside], inferer(near, net), rtol=0, atol=1e-12)
    around = torch.ones(far.shape, dtype=torch.bool)
    around[inside] = False
    assert is_blank(found)[around[0, 0]].all()


class PointWise(nn.Module):
    """Answers with the image itself; admits multiples of 4."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.geometry = Geometry.same(dims, 4)

    def forward(self, x: Tensor) -> Tensor:
        self.geometry.output_size(x.shape[2:])
        return torch.cat([x, -x, 2 * x], dim=1)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(4, 13)), min_size=2, max_size=3),
    BLOBS,
    st.integers(0, 9),
    st.sampled_from((0.0, 0.25, 0.5)),
    BATCHES,
)
def test_every_voxel_keeps_its_place_and_only_air_is_skipped(
    sizes, blobs, seed, overlap, batch
) -> None:
    shape, roi = zip(*sizes, strict=True)
    image = scattered(shape, [blob[: len(shape)] for blob in blobs], seed)
    logits = OverlapTileInferer(roi, overlap, batch, AIR)(image, PointWise(len(shape)))
    assert logits.shape == (1, 3, *shape)
    blank = is_blank(logits)
    assert not (blank & (image[0, 0] > AIR)).any()
    expected = torch.cat([image, -image, 2 * image], dim=1)
    torch.testing.assert_close(logits[0][:, ~blank], expected[0][:, ~blank], rtol=0, atol=1e-12)


def test_the_box_around_the_body_spares_windows_and_the_rest_is_background() -> None:
    image = torch.full((1, 1, 20, 20, 64), AIR)
    image[..., 6:12, 6:12, 30:36] = 1.0
    net = Counted(network(3, "same").float())
    OverlapTileInferer((8, 8, 8), 0.25)(image, net)
    everywhere = len(net.shapes)
    net.shapes.clear()
    logits = OverlapTileInferer((8, 8, 8), 0.25, background_at_most=AIR)(image, net)
    network(3, "same").double()
    assert everywhere == 3 * 3 * 11
    assert len(net.shapes) == 2 * 2 * 2
    blank = is_blank(logits)
    assert blank[..., :28].all()
    assert blank[..., 40:].all()
    assert not blank[6:12, 6:12, 30:36].any()
    assert logits[0].softmax(0)[0][blank].min() == 1


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("dims", [2, 3])
def test_air_alone_takes_one_pass_and_is_background(dims: int, padding: str) -> None:
    net = Counted(network(dims, padding))
    image = torch.full((1, 1, 30, 20, 9), AIR).double()
    roi = (24, 24, 24)[:dims]
    logits = OverlapTileInferer(roi, 0.5, 4, AIR)(image, net)
    assert len(net.shapes) == 1
    assert logits.shape == (1, 3, 30, 20, 9)
    assert is_blank(logits).all()


@pytest.mark.parametrize("filled", [[0], [4], [1, 3], [0, 1, 2, 3, 4], [2]], ids=str)
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_slices_without_body_are_not_computed(filled: list[int], padding: str) -> None:
    torch.manual_seed(1)
    image = torch.full((2, 1, 19, 23, 5), AIR).double()
    image[..., filled] = torch.rand(2, 1, 19, 23, len(filled)).double()
    net = Counted(network(2, padding))
    plain = OverlapTileInferer((40, 40))(image, net)
    net.shapes.clear()
    ruled = OverlapTileInferer((40, 40), background_at_most=AIR)(image, net)
    assert len(net.shapes) == len(filled)
    torch.testing.assert_close(ruled[..., filled], plain[..., filled], rtol=0, atol=1e-12)
    rest = [k for k in range(5) if k not in filled]
    assert (ruled[..., rest].argmax(1) == 0).all()


def test_what_is_no_number_and_what_one_channel_shows_is_body() -> None:
    net, inferer = Counted(network(2, "same")), OverlapTileInferer((8, 8), 0.25, 1, AIR)
    image = torch.full((1, 1, 32, 32), AIR).double()
    image[0, 0, 30, 30] = float("nan")
    assert inferer(image, net)[0, :, 30, 30].isnan().all()

    class TwoChannels(nn.Module):
        geometry = Geometry.same(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return x

    image = torch.full((1, 2, 32, 32), AIR)
    image[0, 1, 20, 20] = 5.0
    assert inferer(image, TwoChannels())[0, 1, 20, 20] == pytest.approx(5.0)


def test_a_network_without_a_class_for_the_background_is_refused() -> None:
    net = GridUNet(2, 1, 1, (3, 4), "unet").eval()
    with pytest.raises(ValueError, match="a class for the background"):
        OverlapTileInferer((8, 8), background_at_most=AIR)(torch.full((1, 1, 40, 8), AIR), net)


def test_labels_disagreement_and_probabilities_of_skipped_tiles() -> None:
    torch.manual_seed(0)
    net = GridUNet(3, 1, 3, (3, 4, 5), "unet++").eval()
    image = torch.full((1, 40, 16, 16), AIR)
    image[:, 4:10] = torch.rand(1, 6, 16, 16)
    inferer = OverlapTileInferer((8, 8, 8), 0.5, 3, AIR)
    found = maps.compute(image, Answers(net), inferer, keep_probabilities=True)
    assert not found.labels[20:].any()
    assert not found.disagreement[20:].any()
    assert (found.probabilities[0, 20:] == 65535).all()
    assert found.disagreement[4:10].any()


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(1, 16))
def test_passes_of_one_shape_compute_few_tiles_twice(groups: list[int], most: int) -> None:
    size = batch_size(groups, most)
    assert 1 <= size <= most
    computed = sum(-(-count // size) * size for count in groups)
    assert computed <= 1.1 * sum(groups)


@pytest.mark.parametrize(("tiles", "most", "size"), [(8, 4, 4), (9, 4, 3), (5, 3, 1), (2, 9, 2)])
def test_the_largest_pass_that_fits_is_taken(tiles: int, most: int, size: int) -> None:
    assert batch_size([tiles], most) == size
