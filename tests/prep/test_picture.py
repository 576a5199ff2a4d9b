"""Pictures: what goes in comes out, and what is broken is named."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from nestseg.outputs.preview import write_png
from nestseg_prep.dicom.findings import Code
from nestseg_prep.dicom.scan import scan
from nestseg_prep.errors import InputError
from nestseg_prep.picture import picture_shape, read_picture, write_picture
from nestseg_prep.reading import read_volume
from nestseg_prep.volume import Volume

LABELS = arrays.arrays(
    np.uint16,
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(1)),
    elements=st.integers(0, 65535),
)


@settings(max_examples=40, deadline=None)
@given(LABELS)
def test_labels_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray
) -> None:
    path = tmp_path_factory.mktemp("labels") / "mask.png"
    write_picture(Volume(array, np.eye(4)), path)
    np.testing.assert_array_equal(read_picture(path).array, array)
    assert picture_shape(path) == array.shape
    assert [p.name for p in path.parent.iterdir()] == ["mask.png"]


def test_the_first_axis_runs_along_a_row(tmp_path: Path) -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)  # two rows of three
    Image.fromarray(pixels).save(tmp_path / "a.png")
    volume = read_picture(tmp_path / "a.png")
    assert volume.shape == (3, 2, 1)
    np.testing.assert_array_equal(volume.array[:, 1, 0], [3, 4, 5])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_colour_is_read_as_luminance(tmp_path: Path, mode: str) -> None:
    red = Image.new("RGB", (4, 5), (255, 0, 0)).convert(mode)
    red.save(tmp_path / "a.tif")
    values = read_picture(tmp_path / "a.tif").array
    assert values.shape == (4, 5, 1)
    np.testing.assert_allclose(values, 0.299 * 255, atol=1)


def test_the_pages_of_a_tiff_are_slices(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((3, 4), n, np.uint8)) for n in (5, 6, 7)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    volume = read_picture(tmp_path / "stack.tif")
    assert volume.shape == (4, 3, 3)
    np.testing.assert_array_equal(volume.array[0, 0], [5, 6, 7])


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(whole)
    cut, text = tmp_path / "cut.png", tmp_path / "text.png"
    cut.write_bytes(whole.read_bytes()[:900])
    text.write_text("not a picture")
    for path in (cut, text):
        with pytest.raises(InputError, match=path.name):
            read_picture(path)


def test_several_slices_do_not_fit_a_png(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="NIfTI"):
        write_picture(Volume(np.zeros((2, 2, 2), np.uint8), np.eye(4)), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_a_scan_takes_pictures_only_where_they_are_asked_for(tmp_path: Path) -> None:
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / "a.PNG", "PNG")
    (tmp_path / "b.png").write_text("no picture")
    assert not scan(tmp_path).series
    found = scan(tmp_path, pictures=True)
    assert [ref.kind for ref in found.series] == ["picture"]
    assert len(found.others) == 1
    np.testing.assert_array_equal(read_volume(found.series[0]).array[:, :, 0], np.eye(8))


def pixel_mm(path: Path, **options: object) -> tuple[float, float] | None:
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(path, **options)
    volume = read_picture(path)
    assert volume.is_picture
    np.testing.assert_array_equal(np.abs(volume.affine), np.eye(4))  # labels lie beside images
    return volume.pixel_mm


@pytest.mark.parametrize("dots", [1, 72, 96, 300, 1200, 2400])
def test_what_screens_and_printers_write_is_no_pixel_size(tmp_path: Path, dots: int) -> None:
    for name in ("a.png", "a.tif", "a.jpg"):
        assert pixel_mm(tmp_path / name, dpi=(dots, dots)) is None
    assert pixel_mm(tmp_path / "b.png") is None


def test_the_resolution_of_a_microscope_is_a_pixel_size(tmp_path: Path) -> None:
    dpi = (50_800, 25_400)  # 0.5 µm wide, 1 µm high
    for name in ("a.png", "a.tif"):
        assert pixel_mm(tmp_path / name, dpi=dpi) == pytest.approx((5e-4, 1e-3), rel=1e-4)
    per_cm = {"x_resolution": 20_000.0, "y_resolution": 10_000.0, "resolution_unit": 3}
    assert pixel_mm(tmp_path / "b.tif", **per_cm) == pytest.approx((5e-4, 1e-3), rel=1e-4)


@pytest.mark.parametrize(
    ("unit", "mm"), [("micron", 1e-3), ("\\u00B5m", 1e-3), ("nm", 1e-6), ("pixel", None)]
)
def test_imagej_names_the_unit_of_its_resolution(tmp_path: Path, unit: str, mm: float) -> None:
    described = {270: f"ImageJ=1.53t\nunit={unit}\nspacing=1.0\n", 296: 1, 282: 4.0, 283: 4.0}
    found = pixel_mm(tmp_path / "a.tif", tiffinfo=described)
    assert found == (None if mm is None else pytest.approx((mm / 4, mm / 4)))


def test_a_resolution_that_is_no_number_is_not_believed(tmp_path: Path) -> None:
    for dots in (0, 1e9):
        assert pixel_mm(tmp_path / "a.tif", dpi=(dots, dots)) is None
    assert pixel_mm(tmp_path / "b.png", dpi=(50_800, 72)) is None


def test_a_mask_of_ours_is_not_taken_for_an_image(tmp_path: Path) -> None:
    mask = Volume(np.ones((8, 8, 1), np.uint8), np.diag([-1.0, -1.0, 1.0, 1.0]))
    write_picture(mask, tmp_path / "label.png")
    write_picture(mask, tmp_path / "seg.png", result=True)
    write_png(Image.new("RGB", (8, 8)), tmp_path / "preview.png")
    found = scan(tmp_path, pictures=True)
    assert [ref.files[0].name for ref in found.series] == ["label.png"]
    assert {other.finding.code for other in found.others} == {Code.RESULT}
    assert np.array_equal(read_picture(tmp_path / "seg.png").array, mask.array)
