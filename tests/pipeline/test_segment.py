"""From a folder to masks: on the source voxels, and no bad case stops the others."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from nestseg.batch.cases import Names
from nestseg.batch.manner import Manner
from nestseg.bundle import locate
from nestseg.bundle.bundle import Bundle
from nestseg.cli.segment import run as segment
from nestseg_prep.dicom.scan import scan
from nestseg_prep.nifti import read_nifti, write_nifti
from nestseg_prep.picture import read_picture
from nestseg_prep.reading import read_volume
from nestseg_prep.volume import Volume
from tests.opened import opened

BUNDLE = "hippocampus_unetpp"
HERE = Manner(workers=0)  # no process to wait for


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return opened(locate.find(BUNDLE))


def rotation(degrees: float, spacing: tuple[float, float, float]) -> np.ndarray:
    """An oblique affine."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag(spacing)
    affine[:3, 3] = (12.5, -30.25, 7.75)
    return affine


def template_crop() -> Volume:
    """The MNI152 T1 template around the left hippocampus, where nilearn is installed."""
    data = pytest.importorskip("nilearn.datasets").__path__[0]
    image = nib.load(Path(data) / "data" / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
    values = np.asarray(image.dataobj)[54:90, 87:139, 40:76]
    affine = image.affine.copy()
    affine[:3, 3] += [54, 87, 40]
    return Volume(values, affine)


def test_the_hippocampus_of_the_template_is_found_in_one_piece(
    bundle: Bundle,
) -> None:
    mask = bundle.predict(template_crop()).mask.array > 0
    pieces, _ = ndimage.label(mask)
    assert 1500 < mask.sum() < 6000  # voxels of 1 mm³
    assert np.bincount(pieces[mask]).max() > 0.9 * mask.sum()


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("flip", [(1, 1, 1), (-1, 1, -1)])
def test_the_mask_does_not_depend_on_how_the_voxels_are_stored(
    bundle: Bundle, axes: tuple[int, ...], flip: tuple[int, ...]
) -> None:
    image = template_crop()
    turn = nib.orientations.axcodes2ornt("RAS")[list(axes)]
    turn[:, 1] = flip
    to_stored = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), turn)
    stored = nib.orientations.apply_orientation(image.array, to_stored)
    affine = image.affine @ nib.orientations.inv_ornt_aff(to_stored, image.shape)
    mask = bundle.predict(Volume(stored, affine)).mask
    assert mask.shape == stored.shape
    np.testing.assert_array_equal(mask.affine, affine)
    expected = nib.orientations.apply_orientation(bundle.predict(image).mask.array, to_stored)
    np.testing.assert_array_equal(mask.array, expected)


def test_the_mask_of_an_oblique_image_of_unequal_spacing_lies_on_its_voxels(
    bundle: Bundle,
) -> None:
    image = template_crop()
    coarse = Volume(image.array[:, ::2], image.affine @ np.diag([1.0, 2.0, 1.0, 1.0]))
    oblique = Volume(coarse.array, rotation(4.0, (1.0, 2.0, 1.0)))
    mask = bundle.predict(oblique).mask
    assert mask.shape == oblique.shape
    np.testing.assert_array_equal(mask.affine, oblique.affine)
    fine = bundle.predict(image).mask.array[:, ::2] > 0
    overlap = 2 * np.sum(fine & (mask.array > 0)) / (fine.sum() + np.sum(mask.array > 0))
    assert overlap > 0.75  # half a voxel of shift would cost more than the coarse slices do


def test_one_bad_case_never_stops_the_others(mr_series: Path, tmp_path: Path) -> None:
    cut = mr_series / "cut.nii.gz"
    noise = np.random.default_rng(0).random((30, 30, 30)).astype(np.float32)
    write_nifti(Volume(noise, np.eye(4)), cut)
    cut.write_bytes(cut.read_bytes()[:-1000])
    out = tmp_path / "out"
    assert segment([mr_series], BUNDLE, out, manner=HERE) == 1
    cases = {case["case"]: case for case in json.loads((out / "run.json").read_text())["cases"]}
    assert cases["cut"]["state"] == "failed"
    assert "\n" not in cases["cut"]["error"]
    assert {case["state"] for case in cases.values()} == {"failed", "done"}
    assert "cut" not in {path.name.split("_")[0] for path in out.iterdir()}


def test_masks_lie_on_the_grid_of_their_series(mr_series: Path, tmp_path: Path) -> None:
    assert segment([mr_series], BUNDLE, tmp_path / "out") == 0
    (ref,) = scan(mr_series).series
    source = read_volume(ref)
    mask = read_nifti(tmp_path / "out" / f"{ref.key}_seg.nii.gz")
    assert mask.shape == source.shape
    assert mask.array.dtype == np.uint8
    np.testing.assert_allclose(mask.affine, source.affine, atol=1e-5)


def test_the_record_says_what_was_run_and_what_came_of_it(mr_series: Path, tmp_path: Path) -> None:
    (mr_series / "notes.txt").write_text("no image")
    segment([mr_series], BUNDLE, tmp_path / "out", manner=HERE)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    (case,) = record["cases"]
    assert case["state"] == "done"
    assert set(case["volumes_ml"]) == {"anterior hippocampus", "posterior hippocampus"}
    assert case["computed_by"] in ("torch fp32", "openvino fp32")
    assert case["notes"] == []
    assert (record["options"]["precision"], record["options"]["runtime"]) == ("fp32", "auto")
    assert (tmp_path / "out" / case["preview"]).read_bytes().startswith(b"\x89PNG")
    assert record["other_files"] == {"not-an-image-file": 1}
    assert len(record["bundle"]["weights_sha256"]) == 64
    assert "Phantom" not in json.dumps(record)


def test_names_of_cases_are_safe_and_unique(tmp_path: Path) -> None:
    volume = Volume(np.zeros((4, 4, 4), np.uint8), np.eye(4))
    for name in ("a/scan 1;rm.nii.gz", "b/scan_1_rm.nii.gz", "c/other.nii"):
        path = tmp_path / name
        path.parent.mkdir()
        write_nifti(volume, path)
    series = scan(tmp_path).series
    given = Names({})
    names = [given.name(ref) for ref in series]
    assert len({name.lower() for name in names}) == 3
    assert [given.name(ref) for ref in series] == names
    again = Names(dict(zip(names, (ref.key for ref in series), strict=True)))
    assert [again.name(ref) for ref in reversed(series)] == names[::-1]
    assert "other" in names
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_") for name in names)


def test_real_series_are_segmented_on_the_grid_of_dcm2niix(
    shared_data: Path, tmp_path: Path
) -> None:
    assert segment([shared_data / "dicom"], BUNDLE, tmp_path / "out", manner=HERE) == 0
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    crops = [case for case in record["cases"] if case["kind"] == "dicom"]
    assert [case["state"] for case in crops] == ["done", "done"]
    unfit = [item for item in record["skipped"] if item["state"] == "does-not-fit"]
    reasons = [item["reason"] for item in unfit if item["modality"] == "CT"]
    assert reasons
    assert all("modality CT" in reason for reason in reasons)
    masks = [read_nifti(tmp_path / "out" / case["mask"]) for case in crops]
    for item in ("mr_hippocrop_1", "mr_hippocrop_2"):
        (path,) = (shared_data / "dicom" / item / "reference_dcm2niix").glob("*.nii.gz")
        reference = nib.load(path)
        (mask,) = [mask for mask in masks if mask.shape == reference.shape]
        np.testing.assert_allclose(mask.affine, reference.affine, atol=1e-3)


def test_an_archive_gives_the_masks_of_what_is_in_it(mr_series: Path, tmp_path: Path) -> None:
    """The archive's files are gone afterwards, and the case is called as without it."""
    packed = tmp_path / "packed"
    packed.mkdir()
    shutil.make_archive(str(packed / "study"), "zip", mr_series)
    for source, out in ((mr_series, "plain"), (packed, "unpacked")):
        assert segment([source], BUNDLE, tmp_path / out, manner=HERE) == 0
    plain, unpacked = (
        {path.name: read_nifti(path).array for path in (tmp_path / out).glob("*.nii.gz")}
        for out in ("plain", "unpacked")
    )
    assert plain
    assert plain.keys() == unpacked.keys()
    for name, mask in plain.items():
        np.testing.assert_array_equal(unpacked[name], mask)
    names = {path.name for path in (tmp_path / "unpacked").iterdir()}
    assert not any(name.startswith(".nestseg-unpacked") for name in names)


def test_the_mask_of_a_picture_is_a_picture(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "nuclei_dsb2018" / "images" / "00071198d059ba7f.png"
    assert segment([source], "nuclei_unetpp", tmp_path / "out", manner=HERE) == 0
    image = read_picture(source)
    mask = read_picture(tmp_path / "out" / "00071198d059ba7f_seg.png")
    assert mask.shape == image.shape
    truth = read_picture(shared_data / "nuclei_dsb2018" / "labels" / source.name).array > 0
    found = mask.array == 1
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.8
