"""What a fingerprint says of a data set is what was written into it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nestseg_prep.errors import InputError
from nestseg_prep.fingerprint import SAMPLES, Intensities, fingerprint, read_case
from nestseg_prep.layouts import LabelledCase, read_dataset
from nestseg_prep.nifti import write_nifti
from nestseg_prep.volume import Volume

from .. import data_sets  # noqa: TID252  tests are no package

MODALITIES = [("MRI", "MR"), ("T1w", "MR"), ("FLAIR", "MR"), ("CT", "CT"), ("PET", "PT")]


def one_case(folder: Path, image: Volume, label: Volume) -> LabelledCase:
    write_nifti(image, folder / "i.nii.gz")
    write_nifti(label, folder / "l.nii.gz")
    return LabelledCase("one", folder / "i.nii.gz", folder / "l.nii.gz")


def test_axes_are_the_patients_whatever_the_order_in_the_file(tmp_path: Path) -> None:
    # Array axes run along posterior, superior and right: PSR.
    affine = np.array([[0, 0, 3.0, 0], [-1.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 0, 1]])
    label = np.zeros((10, 20, 30), np.uint8)
    label[2:5, 4:8, 6:11] = 1
    image = Volume(np.arange(6000, dtype=np.float32).reshape(10, 20, 30), affine)
    facts = read_case(one_case(tmp_path, image, Volume(label, affine)))
    assert facts.shape == (30, 10, 20)
    assert facts.spacing == (3.0, 1.0, 2.0)
    assert facts.box_mm == (15.0, 3.0, 8.0)
    assert facts.voxels == {0: 6000 - 60, 1: 60}
    assert facts.zeros == pytest.approx(1 / 6000)
    np.testing.assert_array_equal(np.sort(facts.foreground), np.sort(image.array[label > 0]))


def test_large_volumes_are_sampled_the_same_way_every_time(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = Volume(rng.normal(50, 10, (40, 40, 40)).astype(np.float32), np.eye(4))
    label = Volume((image.array > 50).astype(np.uint8), np.eye(4))
    case = one_case(tmp_path, image, label)
    first, second = read_case(case), read_case(case)
    assert first.foreground.size == first.overall.size == SAMPLES
    np.testing.assert_array_equal(first.foreground, second.foreground)
    assert first.foreground.min() > 50
    assert abs(first.overall.mean() - 50) < 0.5


def test_an_implant_moves_neither_mean_nor_deviation() -> None:
    tissue = np.random.default_rng(0).normal(50, 10, 10_000)
    with_metal = np.concatenate([tissue, np.full(20, 30_000.0)])
    clean, metal = Intensities.of(tissue), Intensities.of(with_metal)
    assert metal.mean == pytest.approx(clean.mean, abs=0.5)
    assert metal.sd == pytest.approx(clean.sd, abs=0.5)


def test_both_layouts_of_dataset_json_say_the_same(tmp_path: Path) -> None:
    shapes, values = [(16, 20, 12), (16, 20, 14), (16, 22, 13)], (-700.0, 40.0, 120.0)
    prints = []
    for write in (data_sets.decathlon, data_sets.nnunet):
        data = read_dataset(write(tmp_path / write.__name__, shapes, values=values))
        assert data.labels == {0: "background", 1: "dim ball", 2: "bright ball"}
        assert [case.name for case in data.cases] == ["ball_0", "ball_1", "ball_2"]
        prints.append(fingerprint(data.cases, data.labels))
    assert prints[0] == prints[1]
    assert prints[0].median_shape() == (16, 20, 13)
    assert prints[0].labels[1].cases == 3
    assert "ball" not in json.dumps(prints[0].to_json())


@pytest.mark.parametrize(("said", "modality"), [*MODALITIES, ("microscopy", None)])
def test_a_modality_is_dicoms_word_or_none(tmp_path: Path, said: str, modality: str | None) -> None:
    data = read_dataset(data_sets.nnunet(tmp_path / "d", [(12, 12, 12)], channel=said))
    assert data.modality == modality


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"file_ending": ".vtk"}, "convert them to .nii.gz"),
        ({"channel_names": {"0": "T1", "1": "T2"}}, "one is supported"),
        ({"labels": {"background": 0, "whole": [1, 2]}}, "regions"),
        ({"labels": {"background": 0, "a": 1, "ignore": 2}}, "ignore"),
        ({"labels": {"background": 0, "a": "first"}}, "no whole number"),
    ],
)
def test_what_is_not_supported_is_refused_in_one_line(
    tmp_path: Path, change: dict[str, object], complaint: str
) -> None:
    folder = data_sets.nnunet(tmp_path / "d", [(12, 12, 12)])
    index = json.loads((folder / "dataset.json").read_text()) | change
    (folder / "dataset.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=complaint) as refused:
        read_dataset(folder)
    assert len(str(refused.value).splitlines()) == 1


def test_a_folder_without_an_index_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected dataset\.json"):
        read_dataset(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        read_dataset(tmp_path)


def test_labels_that_lie_elsewhere_or_are_no_labels_are_refused(tmp_path: Path) -> None:
    image = Volume(np.ones((8, 8, 8), np.float32), np.eye(4))
    shifted = np.eye(4)
    shifted[0, 3] = 0.5
    for label, complaint in (
        (Volume(np.ones((8, 8, 9), np.uint8), np.eye(4)), "8×8×8 and 8×8×9 voxels"),
        (Volume(np.ones((8, 8, 8), np.uint8), shifted), "0.50 mm apart"),
        (Volume(np.full((8, 8, 8), 0.5, np.float32), np.eye(4)), "no labels"),
        (Volume(np.full((8, 8, 8), -1, np.int16), np.eye(4)), "no labels"),
        (Volume(np.full((8, 8, 8), 3, np.uint8), np.eye(4)), "label 3 is not declared"),
    ):
        with pytest.raises(InputError, match=complaint):
            read_case(one_case(tmp_path, image, label), labels=(0, 1))


def test_a_data_set_without_one_good_case_or_any_foreground_is_refused(tmp_path: Path) -> None:
    image = Volume(np.ones((8, 8, 8), np.float32), np.eye(4))
    empty = one_case(tmp_path, image, Volume(np.zeros((8, 8, 8), np.uint8), np.eye(4)))
    with pytest.raises(InputError, match="no foreground in any of 1"):
        fingerprint([empty])
    missing = LabelledCase("gone", tmp_path / "gone.nii.gz", tmp_path / "l.nii.gz")
    with pytest.raises(InputError, match="none of 1 cases can be used; the first: gone"):
        fingerprint([missing])


def test_the_spleen_crop_has_thick_slices_and_the_hu_of_a_spleen(shared_data: Path) -> None:
    folder = shared_data / "volumes" / "ct_spleen_msd09_crop"
    (label,) = (folder / "labels").iterdir()
    result = fingerprint([LabelledCase("s", folder / "sub-spleen2_ct.nii.gz", label)])
    assert result.median_shape() == (164, 166, 26)
    assert result.median_spacing() == pytest.approx((0.795, 0.795, 5.0), abs=1e-3)
    assert result.foreground is not None
    assert 60 < result.foreground.median < 160  # a spleen with contrast medium
    assert result.overall.low < -900
