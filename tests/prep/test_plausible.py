"""Voxels that speak against their image: CT that cannot be in HU, masks among images."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from nestseg_prep import phantom
from nestseg_prep.dicom.findings import Code
from nestseg_prep.dicom.references import SeriesRef
from nestseg_prep.dicom.scan import scan
from nestseg_prep.errors import InputError
from nestseg_prep.fill import finite
from nestseg_prep.nifti import read_nifti, write_nifti
from nestseg_prep.nifti_header import LABELS, MAP
from nestseg_prep.phantom import Phantom
from nestseg_prep.phantom.enhanced import as_enhanced
from nestseg_prep.plausible import doubts
from nestseg_prep.reading import read_volume
from nestseg_prep.volume import Volume


def body(*, air=True):
    """HU of a trunk with lungs, in air."""
    x, y, _ = np.mgrid[-1:1:60j, -1:1:60j, -1:1:20j]
    hu = np.where((x / 0.8) ** 2 + (y / 0.7) ** 2 < 1, 40.0, -1000.0 if air else 40.0)
    hu[((x - 0.35) / 0.25) ** 2 + (y / 0.45) ** 2 < 1] = -850 if air else -90
    hu[(x / 0.1) ** 2 + ((y - 0.5) / 0.1) ** 2 < 1] = 600
    return hu + np.random.default_rng(0).normal(0, 10, hu.shape)


def series(kind="dicom", modality="CT", quantity=""):
    return SeriesRef(
        kind, "k", "", "", "", modality, "", None, None, None, None, (), quantity=quantity
    )


def codes(values, **of):
    image = Volume(values.astype(np.int16), np.eye(4))
    return [finding.code for finding in doubts(image, series(**of))]


@pytest.mark.parametrize(
    ("stored", "doubted"),
    [
        (lambda hu: hu, False),
        (lambda hu: hu[20:40, 20:40], False),  # a crop inside of the body
        (lambda hu: np.clip(hu, -1024, 3071), False),
        (lambda hu: hu + 1024, True),
        (lambda hu: np.clip(hu + 1024, 0, None), True),
        (lambda hu: hu - 1024, True),
        (lambda hu: np.clip((hu + 1000) / 8, 0, 255), True),
    ],
)
def test_values_that_cannot_be_hounsfield_units_are_doubted(stored, doubted):
    assert codes(stored(body())) == [Code.IMPLAUSIBLE_HOUNSFIELD] * doubted
    assert codes(stored(body()), modality="MR") == []
    assert codes(stored(body()), quantity="MGML") == []


def test_a_body_without_air_is_no_lost_offset():
    assert codes(body(air=False)) == []


def test_headers_alone_show_a_scale_without_air_or_bone(tmp_path):
    for name, tags in {
        "offset": {"RescaleIntercept": 0},
        "eight bits": {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7},
        "sound": {},
    }.items():
        changed = phantom.every(phantom.setting(**tags))(Phantom().datasets())
        if name == "eight bits":
            for ds in changed:
                ds.PixelData = phantom.get_pixels(ds).astype(np.uint8).tobytes()
                ds["PixelData"].VR = "OB"
        phantom.write(changed, tmp_path / name)
        (ref,) = scan(tmp_path / name).accepted
        found = [finding.code for finding in ref.findings]
        assert found == [Code.IMPLAUSIBLE_HOUNSFIELD] * (name != "sound")


def test_frames_of_an_enhanced_object_are_shifted_into_place_each(tmp_path):
    slices = Phantom(columns=8, rows=6, slices=4).datasets()
    for ds in slices:
        ds.PixelRepresentation, ds.BitsStored, ds.HighBit = 1, 12, 15
        phantom.set_pixels(ds, (phantom.get_pixels(ds).astype(int) % 200 - 100) * 16)
    phantom.write([as_enhanced(slices)], tmp_path)
    (ref,) = scan(tmp_path).accepted
    assert Code.SHIFTED_PIXELS in {finding.code for finding in ref.findings}
    stored = np.stack([phantom.get_pixels(ds) // 16 for ds in slices])
    np.testing.assert_array_equal(read_volume(ref).array[:, ::-1].T, stored - 1024)


@pytest.mark.parametrize("mark", [LABELS, MAP])
def test_results_of_ours_are_no_images(mark, tmp_path):
    image = Phantom(modality="MR").truth
    labels = Volume((image.array % 3).astype(np.uint8), image.affine)
    write_nifti(image, tmp_path / "case.nii.gz")
    write_nifti(labels, tmp_path / "case_seg.nii.gz", mark=mark)
    result = scan(tmp_path)
    assert [ref.files[0].name for ref in result.series] == ["case.nii.gz"]
    assert [other.finding.code for other in result.others] == [Code.RESULT]
    np.testing.assert_array_equal(read_nifti(tmp_path / "case_seg.nii.gz").array, labels.array)


def test_a_label_map_of_others_is_known_by_its_intent_and_else_doubted(tmp_path):
    labels = (Phantom(modality="MR").truth.array % 4).astype(np.uint8)
    image = nib.Nifti1Image(labels, np.diag([1.0, 1, 2, 1]))
    image.to_filename(tmp_path / "plain.nii")
    image.header.set_intent("label")
    image.to_filename(tmp_path / "named.nii")
    result = scan(tmp_path)
    assert [other.path.name for other in result.others] == ["named.nii"]
    (ref,) = result.accepted
    assert [finding.code for finding in doubts(read_volume(ref), ref)] == [Code.LABEL_LIKE]
    assert codes(Phantom(modality="MR").truth.array, kind="nifti", modality=None) == []


def test_voxels_that_are_not_finite_follow_one_rule():
    values = np.arange(4096, dtype=np.float32).reshape(16, 16, 16) - 7
    assert finite(values) is values
    assert finite(values.astype(np.int16)).dtype == np.int16
    broken = values.copy()
    broken[3, 4, 5], broken[3, 4, 6], broken[0, 0, 1] = np.nan, np.inf, -np.inf
    repaired = finite(broken)
    assert repaired[3, 4, 5] == repaired[3, 4, 6] == repaired[0, 0, 1] == -7
    assert np.count_nonzero(repaired != values) == 3
    assert np.isnan(broken[3, 4, 5])
    broken[8] = np.nan
    with pytest.raises(InputError, match="259 of 4096 voxels are NaN or infinite"):
        finite(broken)
