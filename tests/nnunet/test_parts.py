"""The laws of nnU-Net's parts: resampling, tiles, decisions, normalisation."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.meta_tensor import MetaTensor
from scipy import ndimage
from skimage.transform import resize

from nestseg.networks import PlainConvUNet
from nestseg.nnunet import Folds, NnUNetInferer, NnUNetPreprocessd, Resampling
from nestseg.nnunet.inferer import _gaussian, _starts
from nestseg.nnunet.labels import Decision, LabelsBack
from nestseg.nnunet.resampling import new_shape

SIDES = st.tuples(*[st.integers(2, 9)] * 3)
SEEDS = st.integers(0, 2**16)


@settings(max_examples=25, deadline=None)
@given(SIDES, SIDES, st.sampled_from([0, 1, 3]), SEEDS)
def test_resampling_is_that_of_scikit_image(
    source: tuple[int, ...], target: tuple[int, ...], order: int, seed: int
) -> None:
    values = np.random.default_rng(seed).normal(size=(1, *source)).astype(np.float32)
    found = Resampling(order=order).resize(values, target, (1, 1, 1), (1, 1, 1))
    wanted = values[0].astype(float)
    if source != target:
        wanted = resize(wanted, target, order, mode="edge", anti_aliasing=False)
    np.testing.assert_array_equal(found[0], wanted.astype(np.float32))


@pytest.mark.parametrize(
    ("current", "new", "separate", "axis"),
    [
        ((1, 1, 1), (1, 1, 2.9), None, None),
        ((1, 1, 1), (1, 1, 3.1), None, 2),
        ((5, 1, 1), (1, 1, 1), None, 0),
        ((5, 5, 1), (1, 1, 1), None, None),  # two coarse axes
        ((1, 1, 3), (1, 1, 1), None, None),  # not above three
        ((5, 1, 1), (1, 1, 1), False, None),
        ((1, 1.1, 1), (1, 1, 1), True, 1),
    ],
)
def test_planes_go_one_by_one_where_one_axis_is_three_times_as_coarse(
    current: tuple[float, ...],
    new: tuple[float, ...],
    separate: bool | None,
    axis: int | None,
) -> None:
    assert Resampling(separate_z=separate).coarse_axis(current, new) == axis


def test_sizes_are_rounded_half_to_even() -> None:
    assert new_shape((51, 53, 10), (0.5, 0.5, 1), (1, 1, 3)) == (26, 26, 3)


@settings(max_examples=40, deadline=None)
@given(
    SIDES,
    SIDES,
    SEEDS,
    st.sampled_from([None, (3, 1, 2)]),
    st.sampled_from([False, True]),
    st.integers(1, 3),
)
def test_labels_made_plane_by_plane_are_those_of_resampled_logits(
    source: tuple[int, ...],
    target: tuple[int, ...],
    seed: int,
    regions: tuple[int, ...] | None,
    planewise: bool,
    coarse: int,
) -> None:
    """Logits of few values, so that ties and roundings occur."""
    rng = np.random.default_rng(seed)
    steps = 2.0 ** rng.integers(-12, 2)
    smooth = ndimage.gaussian_filter(rng.normal(size=(3, *source)), (0, 1, 1, 1))
    logits = (np.rint(4 * smooth / steps) * steps).astype(np.float16)
    resampling = Resampling(order=1, separate_z=planewise)
    spacing = [9.0 if axis + 1 == coarse else 1.0 for axis in range(3)]
    back = LabelsBack(
        resampling.points(source, target, resampling.coarse_axis(spacing, spacing)),
        Decision(regions),
        torch.float16,
        torch.device("cpu"),
    )
    for part in torch.from_numpy(logits).split(2, dim=1):
        back.add(part)
    resized = resampling.resize(logits, target, spacing, spacing)
    if regions is None:
        wanted = resized.argmax(0)
    else:
        inside = torch.from_numpy(resized).float().sigmoid().numpy() > 0.5
        wanted = np.zeros(target, int)
        for value, one in zip(regions, inside, strict=True):
            wanted[one] = value
    np.testing.assert_array_equal(back.labels.numpy(), wanted)


@given(st.integers(8, 40), st.integers(0, 200), st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_tiles_begin_at_the_edge_end_at_the_edge_and_step_no_further_than_asked(
    tile: int, more: int, step: float
) -> None:
    size = tile + more
    starts = _starts(size, tile, step)
    assert starts[0] == 0
    assert starts[-1] == size - tile
    assert all(0 < b - a <= tile * step + 1 for a, b in pairwise(starts))


def test_the_weights_of_a_tile_are_never_zero_and_peak_at_ten() -> None:
    weights = _gaussian((64, 8, 16))
    assert weights.dtype == torch.float16
    assert weights.min() > 0
    assert weights.max() == weights[32, 4, 8] == 10


def test_tiles_blended_row_by_row_are_those_of_the_whole_volume() -> None:
    torch.manual_seed(0)
    image, inferer = torch.randn(1, 21, 13, 17), NnUNetInferer((8, 8, 8))
    total, counts = torch.zeros(2, 21, 13, 17).half(), torch.zeros(21, 13, 17).half()
    weights = _gaussian((8, 8, 8))

    def predict(tile: torch.Tensor) -> torch.Tensor:
        return torch.cat([tile[0] ** 2, tile[0].roll(1, 2)])

    for z in _starts(21, 8, 0.5):
        for y in _starts(13, 8, 0.5):
            for x in _starts(17, 8, 0.5):
                place = (slice(z, z + 8), slice(y, y + 8), slice(x, x + 8))
                total[(slice(None), *place)] += (
                    predict(image[(None, slice(None), *place)]) * weights
                )
                counts[place] += weights
    found = list(inferer.logits(image, [predict]))
    assert len(found) > 1
    assert torch.equal(torch.cat(found, dim=1), total / counts)


@pytest.mark.parametrize("shape", [(3, 9, 5), (8, 8, 8)])
def test_an_image_smaller_than_a_tile_is_padded_with_zeros_and_cut_back(
    shape: tuple[int, ...],
) -> None:
    image = torch.rand(1, *shape) + 1
    seen = []

    def predict(tile: torch.Tensor) -> torch.Tensor:
        seen.append(tile)
        return tile[0]

    (found,) = list(NnUNetInferer((8, 10, 8)).logits(image, [predict]))
    assert found.shape == image.shape
    # In a corner of a tile nnU-Net's weights are so small that half precision rounds by a third.
    torch.testing.assert_close(found.float(), image, rtol=0.4, atol=0)
    assert [tuple(one.shape) for one in seen] == [(1, 1, 8, 10, 8)]
    low = [(n - m) // 2 for n, m in zip((8, 10, 8), shape, strict=True)]
    inside = tuple(slice(a, a + n) for a, n in zip(low, shape, strict=True))
    assert torch.equal(seen[0][0, 0][inside], image[0])
    assert float(seen[0].sum()) == pytest.approx(float(image.sum()))


def test_mirrored_copies_are_averaged_as_logits() -> None:
    inferer = NnUNetInferer((4, 4, 4), mirror_axes=(0, 2))
    tile = torch.randn(1, 1, 4, 4, 4)
    asked = []

    def network(x: torch.Tensor) -> torch.Tensor:
        asked.append(x)
        return x * torch.arange(4.0)[:, None, None]

    found = inferer._mirrored(tile, network)
    assert len(asked) == 4
    mean = (torch.arange(4.0) + torch.arange(4.0).flip(0)) / 2
    torch.testing.assert_close(found, tile[0] * mean[:, None, None])


def test_folds_answer_with_the_mean_of_their_logits() -> None:
    folds = Folds(PlainConvUNet(2, 1, 2, (2, 2), ((1, 1), (2, 2))), 3).eval()
    for fold in folds.folds[1:]:
        for weight in fold.parameters():
            torch.nn.init.normal_(weight)
    x = torch.randn(1, 1, 8, 8)
    mean = torch.stack([fold(x) for fold in folds.folds]).mean(dim=0)
    torch.testing.assert_close(folds(x), mean)


def test_logits_beyond_half_precision_are_an_error() -> None:
    slabs = NnUNetInferer((4, 4)).logits(torch.ones(1, 2, 4, 4), [lambda x: x[0] * 1e6])
    with pytest.raises(RuntimeError, match="too large for half precision"):
        list(slabs)


@pytest.mark.parametrize(
    ("scheme", "wanted"),
    [
        ({"scheme": "NoNormalization"}, [0, 0, 1, 2, 5]),
        ({"scheme": "RescaleTo01Normalization"}, [0, 0, 0.2, 0.4, 1]),
        ({"scheme": "RGBTo01Normalization"}, [0, 0, 1 / 255, 2 / 255, 5 / 255]),
        (
            {"scheme": "CTNormalization", "low": 0.5, "high": 2, "mean": 1, "std": 2},
            [-0.25, -0.25, 0, 0.5, 0.5],
        ),
        ({"scheme": "ZScoreNormalization"}, (np.array([0, 0, 1, 2, 5]) - 1.6) / 1.854724),
    ],
)
def test_values_are_normalised_as_the_plans_say(scheme: dict, wanted: list[float]) -> None:
    image = torch.tensor([0, 0, 1, 2, 5.0]).reshape(1, 5, 1, 1).expand(1, 5, 2, 2)
    whole = torch.cat([image, torch.full((1, 5, 2, 1), 7.0) * (image[..., :1] == 5)], dim=3)
    whole[0, 0, 0, 0] = 1e-30  # so that nothing is cropped away
    prepared = NnUNetPreprocessd("image", spacing=(1, 1, 1), normalization=[scheme])
    out = prepared({"image": MetaTensor(whole[..., :2].clone(), affine=np.eye(4))})["image"]
    np.testing.assert_allclose(out[0, 0, 0], wanted, atol=1e-6)


def test_the_crop_and_the_masked_mean_leave_out_what_is_zero_outside_and_keep_holes() -> None:
    image = np.zeros((1, 8, 8, 8), np.float32)
    image[0, 2:7, 2:7, 2:7] = np.random.default_rng(0).normal(5, 1, (5, 5, 5))
    image[0, 4, 4, 4] = 0  # a hole
    image[0, 2, 2, 2:7] = 0  # a notch: outside, though in the box
    scheme = {"scheme": "ZScoreNormalization", "masked": True}
    prepared = NnUNetPreprocessd("image", spacing=(1, 1, 1), normalization=[scheme])
    out = prepared({"image": MetaTensor(image, affine=np.eye(4))})["image"]
    assert out.shape == (1, 5, 5, 5)
    notch = out[0, :, 0, 0]
    assert not notch.any()
    inside = np.ones((5, 5, 5), bool)
    inside[:, 0, 0] = False
    assert out.numpy()[0][inside].mean() == pytest.approx(0, abs=1e-5)
    assert out.numpy()[0][inside].std() == pytest.approx(1, abs=1e-5)
    assert out[0, 2, 2, 2] < -2
    np.testing.assert_allclose(out.affine[:3, 3], [2, 2, 2])


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_a_label_map_goes_back_to_the_voxels_that_the_crop_came_from(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = np.zeros((1, 9, 8, 7), np.float32)
    image[0, 1:8, 2:6, 1:5] = 1 + rng.random((7, 4, 4))
    transpose = tuple(rng.permutation(3).tolist())
    orientation = ("file", "RAS", "LPS")[rng.integers(3)]
    prepared = NnUNetPreprocessd(
        "image",
        spacing=(1, 1, 1),
        normalization=[{"scheme": "NoNormalization"}],
        resampling=Resampling("none"),
        transpose=transpose,
        orientation=orientation,
    )
    affine = np.eye(4)[[0, 2, 1, 3]] * [1, -1, 1, 1]
    affine[:3] *= rng.choice([-1, 1], (3, 1))
    out = prepared({"image": MetaTensor(image, affine=affine)})["image"]
    back = prepared.inverse({"image": out})["image"]
    np.testing.assert_array_equal(back, image)
    np.testing.assert_allclose(back.affine, affine)
