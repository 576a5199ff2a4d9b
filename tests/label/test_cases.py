"""Which images train and which validate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestseg.label.cases import split, usable
from nestseg_prep.errors import InputError
from nestseg_prep.nifti import read_nifti, write_nifti
from nestseg_prep.selection import Selection
from nestseg_prep.volume import Volume

IDS = st.sets(st.text(st.characters(codec="ascii"), min_size=1), min_size=2, max_size=40)


@given(IDS, st.floats(0.05, 0.95))
def test_every_image_is_in_one_part_and_no_part_is_empty(ids: set[str], part: float) -> None:
    learn, check = split(ids, part)
    assert learn
    assert check
    assert sorted(learn + check) == sorted(ids)


@given(IDS, IDS, st.floats(0.05, 0.6))
def test_what_trained_once_never_validates_later(
    early: set[str], more: set[str], part: float
) -> None:
    learned, _ = split(early, part)
    _, check = split(early | more, part)
    if len(split(early, part)[1]) < len(early) - 1:  # else one was moved so that somebody trains
        assert not set(learned) & set(check)


@pytest.mark.parametrize(("ids", "part"), [(["a"], 0.2), ([], 0.2), (["a", "b"], 0.0)])
def test_too_little_to_divide_is_refused(ids: list[str], part: float) -> None:
    with pytest.raises(InputError):
        split(ids, part)


def test_labels_are_laid_on_their_images_and_bad_ones_are_left_out(tmp_path: Path) -> None:
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    image = Volume(np.arange(8 * 9 * 10, dtype=np.float32).reshape(8, 9, 10), affine)
    truth = np.zeros(image.shape, np.uint8)
    truth[2:5, 3:6, 4:8] = 2
    shift = np.eye(4)
    shift[:3, 3] = [1, 2, 3]
    cropped = Volume(truth[1:, 2:, 3:], affine @ shift)
    strange = Volume(np.full(image.shape, 9, np.uint8), affine)
    for name, volume in (("image", image), ("good", cropped), ("strange", strange)):
        write_nifti(volume, tmp_path / f"{name}.nii.gz")
    (tmp_path / "broken.nii.gz").write_bytes(b"nothing")
    items = [
        {"id": kind, "image": tmp_path / "image.nii.gz", "label": tmp_path / f"{kind}.nii.gz"}
        for kind in ("good", "strange", "broken")
    ]
    out = tmp_path / "out"
    out.mkdir()
    found, left = usable(items, 2, Selection(), out)
    assert [one.id for one in found] == ["good"], left
    np.testing.assert_array_equal(read_nifti(found[0].label).array, truth)
    np.testing.assert_allclose(read_nifti(found[0].image).affine, affine)
    assert len(left) == 2
    assert "class 9" in left[0]
    assert not any("broken" in line.split(":", 1)[0] for line in left)
