"""Slabs are the image cut up, and what is taken of each slab is what is taken of the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from nestseg.bundle import maps
from nestseg.inferers import Answers, OverlapTileInferer
from nestseg.networks import GridUNet
from nestseg.networks.outputs import head_disagreement
from nestseg_prep.geometry import Geometry
from nestseg_prep.padding import symmetric_padding, unpad
from nestseg_prep.transforms import mirror_pad_tensor

from .held import Held

pytestmark = pytest.mark.usefixtures("no_grad")


@pytest.fixture(scope="module")
def no_grad():
    with torch.no_grad():
        yield


def network(dims: int, depth: int, padding: str) -> GridUNet:
    torch.manual_seed(0)
    net = GridUNet(dims, 1, 3, range(3, depth + 4), "unet++", padding=padding)
    return net.eval()


def noise(*shape: int) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(shape)


CASES = [
    (3, 1, "valid", (18, 20, 24), (7, 30, 5)),
    (3, 2, "same", (8, 12, 8), (21, 10, 33)),
    (3, 2, "same", (8, 12, 8), (3, 4, 2)),
    (2, 2, "same", (16, 12), (30, 21)),
    (2, 1, "valid", (20, 20), (9, 11, 4)),  # a volume, slice by slice
    (2, 2, "same", (16, 12), (17, 12, 5)),
]


@pytest.mark.parametrize(("dims", "depth", "padding", "roi", "shape"), CASES)
@pytest.mark.parametrize("batch", [1, 3])
def test_labels_of_slabs_are_the_labels_of_the_whole(dims, depth, padding, roi, shape, batch):
    net, image = network(dims, depth, padding), noise(1, *shape)
    inferer = OverlapTileInferer(roi, sw_batch_size=batch)
    logits = inferer(image[None], net)[0]
    found = maps.compute(image, Answers(net), inferer, keep_probabilities=True)
    np.testing.assert_array_equal(found.labels, logits.argmax(dim=0))
    assert len(np.unique(found.labels)) > 1
    np.testing.assert_allclose(found.probabilities / 65535, logits.softmax(dim=0), atol=1e-5)
    assert (found.disagreement is not None) == (depth > 1)


@settings(deadline=None, max_examples=15)
@given(
    st.tuples(st.integers(1, 24), st.integers(1, 9), st.integers(1, 24)),
    st.tuples(st.integers(4, 16), st.integers(4, 16), st.integers(4, 16)),
    st.sampled_from((0.0, 0.25, 0.5, 0.6)),
)
def test_slabs_come_in_order_and_cover_the_image_once(shape, roi, overlap) -> None:
    image = noise(1, 1, *shape)
    net = network(3, 1, "same")
    written = torch.zeros(shape)
    last = -1
    for slab in OverlapTileInferer(roi, overlap).slabs(image, net):
        assert slab.start > last
        last = slab.start
        written[slab.place] += 1
    assert (written == 1).all()


def test_blending_is_that_of_the_sliding_window_of_monai() -> None:
    net, image = network(3, 2, "same"), noise(2, 1, 20, 24, 16)
    ours = OverlapTileInferer((8, 12, 8), 0.5)(image, net)
    theirs = sliding_window_inference(image, (8, 12, 8), 1, net, overlap=0.5, mode="gaussian")
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_half_the_tile_of_a_valid_network_changes_nothing() -> None:
    torch.manual_seed(0)
    net = GridUNet(3, 1, 2, (3, 4), "unet++", padding="valid").eval()
    image, inferer = noise(1, 1, 20, 9, 30), OverlapTileInferer((40, 40, 40), sw_batch_size=4)
    gentle = inferer.gentler(net.geometry)
    assert gentle.roi_size == (20, 40, 40)
    assert gentle.sw_batch_size == 1
    torch.testing.assert_close(gentle(image, net), inferer(image, net), rtol=0, atol=1e-5)


class Heads(nn.Module):
    """Two heads that see a tile unlike its mirror image."""

    def __init__(self) -> None:
        super().__init__()
        grid = network(3, 2, "same")
        self.geometry, self.grid = grid.geometry, grid

    def forward_heads(self, x: Tensor) -> list[Tensor]:
        slope = torch.linspace(-1, 1, x.shape[2])[:, None, None]
        return [head + slope for head in self.grid.forward_heads(x)]

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_heads(x)[0]


def test_the_disagreement_of_the_heads_is_a_channel_behind_the_logits() -> None:
    net, x = Heads(), noise(2, 1, 8, 8, 8)
    heads = net.forward_heads(x)
    answers = Answers(net)
    out = answers(x)
    assert answers.disagrees
    torch.testing.assert_close(out[:, :3], heads[0])
    torch.testing.assert_close(out[:, 3:], head_disagreement(heads, "softmax"))


def test_mirrored_answers_are_averaged_as_probabilities_and_all_heads_disagree() -> None:
    net, x = Heads(), noise(1, 1, 8, 12, 8)
    out = Answers(net, (0, 2))(x)
    main, every = [], []
    for dims in ((), (2,), (4,), (2, 4)):
        heads = [head.flip(dims) for head in net.forward_heads(x.flip(dims))]
        main.append(heads[0].softmax(dim=1))
        every += heads
    torch.testing.assert_close(out[:, :3].softmax(dim=1), torch.stack(main).mean(dim=0))
    expected = head_disagreement(every, "softmax")
    assert expected.max() > 0.01
    torch.testing.assert_close(out[:, 3:], expected, rtol=1e-4, atol=1e-5)


def test_one_head_that_is_asked_once_has_nothing_to_disagree_with() -> None:
    net = GridUNet(2, 1, 2, (3, 4), "unet").eval()
    x = noise(1, 1, 8, 8)
    answers = Answers(net)
    torch.testing.assert_close(answers(x), net(x))
    assert not answers.disagrees
    assert Answers(net, (0, 1))(x).shape[1] == 3


class Answered(nn.Module):
    """A network of many classes that computes nothing."""

    geometry = Geometry.same(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x.expand(-1, 20, -1, -1, -1).contiguous()


def peak(length: int, roi: tuple[int, ...]) -> int:
    """Values held at once while a long volume is labelled, the volume included."""
    image = noise(1, 24, 20, length)
    with Held(image) as held:
        maps.compute(image, Answers(Answered()), OverlapTileInferer(roi), keep_probabilities=False)
    return held.peak


def test_a_longer_volume_takes_its_own_memory_and_no_more() -> None:
    roi = (16, 16, 16)
    short, long = peak(80, roi), peak(240, roi)
    assert long - short == 24 * 20 * 160  # the image itself: no logits
    slab, window = 20 * 24 * 20 * 16, 20 * 16**3
    assert short < 24 * 20 * 80 + 2.2 * slab + 2 * window  # under way, finished; labels, weights


def test_of_equal_logits_the_first_counts() -> None:
    class Ties(nn.Module):
        geometry = Geometry.same(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            torch.manual_seed(3)
            return torch.randint(0, 3, (len(x), 7, *x.shape[2:])).float()

    net, inferer, image = Ties(), OverlapTileInferer((32, 32, 32)), noise(1, 16, 20, 12)
    found = maps.compute(image, Answers(net), inferer, keep_probabilities=False)
    np.testing.assert_array_equal(found.labels, net(image[None])[0].numpy().argmax(axis=0))


@pytest.mark.parametrize("overlap", [0.25, 0.5, 0.7])
@pytest.mark.parametrize("shape", [(21, 9, 40), (8, 6, 8), (30, 8, 9)], ids=str)
def test_blending_is_a_weighted_mean_window_by_window(shape, overlap) -> None:
    """The sums over the whole volume at once, as they are defined."""
    net, image, roi = network(3, 1, "same").double(), noise(2, 1, *shape).double(), (8, 6, 8)
    size = net.geometry.input_size(shape)
    padding = symmetric_padding(shape, size)
    padded = mirror_pad_tensor(image, padding)
    window = tuple(map(min, roi, size))
    weights = compute_importance_map(window, mode="gaussian", dtype=torch.float64)
    steps = [max(1, int(n * (1 - overlap))) for n in window]
    total, weight = torch.zeros(2, 3, *size).double(), torch.zeros(size).double()
    for place in dense_patch_slices(size, window, steps):
        total[(..., *place)] += net(padded[(..., *place)]) * weights
        weight[place] += weights
    expected = unpad(total / weight, padding)
    for batch in (1, 4):
        found = OverlapTileInferer(roi, overlap, batch)(image, net)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
