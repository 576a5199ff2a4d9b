"""What a report keeps of a case: small, in its place, and the same bytes each time."""

import gzip
import io
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.measure import block_reduce

from nestseg.outputs import coarse
from nestseg.outputs.planes import COLOURS, draw_planes
from nestseg.outputs.preview import draw_preview
from nestseg.outputs.snapshot import read_snapshot, snapshot
from nestseg_prep.volume import Volume

from .bodies import LABELS, body

SIZES = st.tuples(*[st.integers(1, 40)] * 3)
STEPS = st.tuples(*[st.integers(1, 7)] * 3)


def nifti(content: bytes) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(content))


def turned(volume: Volume, codes: str) -> Volume:
    """The same body stored along other axes."""
    ornt = nib.orientations.axcodes2ornt(codes)
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), ornt)
    array = nib.orientations.apply_orientation(volume.array, turn)
    return Volume(array, volume.affine @ nib.orientations.inv_ornt_aff(turn, volume.shape))


@given(shape=SIZES, step=STEPS, seed=st.integers(0, 9))
def test_means_are_those_of_scikit_image_where_blocks_are_whole(
    shape: tuple[int, int, int], step: tuple[int, int, int], seed: int
) -> None:
    array = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    whole = tuple(slice(0, n - n % s) for n, s in zip(shape, step, strict=True))
    expected = block_reduce(array[whole], step, np.mean) if array[whole].size else np.empty(0)
    made = coarse.means(array, step)
    if expected.size:
        inner = tuple(slice(0, n) for n in expected.shape)
        np.testing.assert_allclose(made[inner], expected, atol=1e-5)
    assert array.min() - 1e-5 <= made.min()
    assert made.max() <= array.max() + 1e-5


@given(shape=st.tuples(*[st.integers(1, 2000)] * 3), thick=st.floats(0.1, 10))
def test_no_grid_is_larger_than_the_limit_and_thick_slices_stay(
    shape: tuple[int, int, int], thick: float
) -> None:
    spacing = (0.7, 0.8, thick)
    step = coarse.steps(shape, spacing)
    size = np.prod([-(-n // s) for n, s in zip(shape, step, strict=True)])
    assert size <= coarse.MOST_VOXELS
    if np.prod(shape) <= coarse.MOST_VOXELS:
        assert step == (1, 1, 1)
    if min(shape[0], shape[1]) * 0.7 > 20 and step[2] > 1:
        # A step was taken along the slices only when they were the finest axis at that moment.
        assert (step[2] - 1) * thick <= max(step[0] * 0.7, step[1] * 0.8) + 1e-6


@given(shape=SIZES, step=STEPS, seed=st.integers(0, 9))
def test_no_label_vanishes_and_none_appears(
    shape: tuple[int, int, int], step: tuple[int, int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.choice([0, 2, 5], p=[0.9, 0.09, 0.01], size=shape).astype(np.int16)
    made = coarse.labels(mask, step, [2, 5])
    many = np.prod(made.shape)
    assert made.shape == tuple(-(-n // s) for n, s in zip(shape, step, strict=True))
    if many > 20:  # else two labels may fall on one coarse voxel
        assert bool(5 in mask) == bool(2 in made)
    if not mask.any():
        assert not made.any()


@pytest.mark.parametrize("codes", ["RAS", "LPS", "ILA", "PSR"])
def test_a_coarse_body_lies_where_the_fine_one_does(codes: str) -> None:
    image, mask = (turned(volume, codes) for volume in body((130, 110, 121), (0.5, 0.6, 0.9)))
    made = snapshot(image, mask, LABELS)
    small, places = nifti(made.image), nifti(made.mask)
    assert max(made.steps) > 1
    np.testing.assert_array_equal(small.affine, places.affine)
    assert small.get_data_dtype() == np.uint8
    assert "".join(nib.aff2axcodes(small.affine)) == "RAS"
    flat = np.asarray(places.dataobj)
    assert set(np.unique(flat)) == {0, 1, 2}
    for place, value in enumerate(LABELS, start=1):
        fine = nib.affines.apply_affine(mask.affine, np.argwhere(mask.array == value)).mean(axis=0)
        there = nib.affines.apply_affine(places.affine, np.argwhere(flat == place)).mean(axis=0)
        np.testing.assert_allclose(there, fine, atol=0.5)
    inside = np.asarray(small.dataobj)[flat > 0].mean()  # slope and intercept applied
    assert abs(inside - image.array[mask.array > 0].mean()) < 25


def test_snapshots_are_read_back_and_their_bytes_repeat(tmp_path: Path) -> None:
    image, mask = body()
    made = snapshot(image, mask, LABELS)
    made.write(tmp_path / "a.zip")
    snapshot(image, mask, LABELS).write(tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert read_snapshot(tmp_path / "a.zip") == made
    with pytest.raises(FileExistsError):
        made.write(tmp_path / "a.zip")


def test_a_damaged_snapshot_is_named(tmp_path: Path) -> None:
    snapshot(*body(), LABELS).write(tmp_path / "a.zip")
    whole = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.zip: a damaged snapshot"):
        read_snapshot(tmp_path / "cut.zip")


def test_a_large_noisy_volume_makes_a_small_snapshot() -> None:
    rng = np.random.default_rng(0)
    image = Volume(rng.integers(-1000, 1000, (256, 256, 120), np.int16), np.diag([1, 1, 2, 1.0]))
    mask = Volume(np.zeros(image.shape, np.uint8), image.affine)
    made = snapshot(image, mask, LABELS)
    assert len(made.image) + len(made.mask) + len(made.planes) < 1_000_000


def test_planes_are_upright_at_true_proportions() -> None:
    """Anterior is up on axial planes, superior on the others, however voxels are stored."""
    shown = {}
    for codes in ("RAS", "LPS", "SAR"):
        image, mask = (turned(volume, codes) for volume in body((60, 50, 40), (1, 1, 2)))
        planes = {plane.name: plane.picture for plane in draw_planes(image, mask, LABELS, 100)}
        assert {name: picture.size for name, picture in planes.items()} == {
            "sagittal": (62, 100),  # 50 mm × 80 mm
            "coronal": (75, 100),  # 60 mm × 80 mm
            "axial": (120, 100),  # 60 mm × 50 mm
        }
        shown[codes] = {name: np.asarray(picture) for name, picture in planes.items()}
    for name, pixels in shown["RAS"].items():
        for codes in ("LPS", "SAR"):
            np.testing.assert_array_equal(shown[codes][name], pixels)
    side, behind = shown["RAS"]["sagittal"], shown["RAS"]["coronal"]
    assert np.argwhere((side == COLOURS[0]).all(axis=-1))[:, 1].max() < 31  # anterior: left
    assert np.argwhere((side == COLOURS[1]).all(axis=-1))[:, 0].max() < 50  # superior: up
    assert np.argwhere((behind == COLOURS[0]).all(axis=-1))[:, 1].max() < 38  # right: left


def test_a_picture_has_one_plane() -> None:
    rng = np.random.default_rng(1)
    image = Volume(rng.integers(0, 255, (80, 60, 1), np.uint8), np.diag([-1, -1, 1, 1.0]))
    mask = Volume((image.array > 200).astype(np.uint8), image.affine)
    assert [plane.name for plane in draw_planes(image, mask, {1: "x"}, 60)] == ["axial"]
    assert draw_preview(image, mask, {1: "x"}).width < 1000
    made = snapshot(image, mask, {1: "x"})
    assert Image.open(io.BytesIO(made.planes)).size == (213, 160)
    assert nifti(made.image).shape == image.shape


def test_an_empty_mask_shows_the_middle() -> None:
    image, mask = body()
    empty = Volume(np.zeros_like(mask.array), mask.affine)
    made = snapshot(image, empty, LABELS)
    assert not np.asarray(nifti(made.mask).dataobj).any()
    assert Image.open(io.BytesIO(made.planes)).height == 160
