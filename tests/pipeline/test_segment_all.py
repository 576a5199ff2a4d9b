"""Without --bundle each series goes to the bundles that fit it, and to no other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nestseg.batch.manner import Manner
from nestseg.batch.read import read_view
from nestseg.batch.states import State
from nestseg.cli import segment_all
from nestseg_prep.dicom.references import SeriesRef
from nestseg_prep.errors import InputError
from nestseg_prep.phantom import Phantom, write
from tests.report.runs import enter, recording

BLANK = SeriesRef(
    *("dicom", "key", "", "", "", "MR", "", "axial", (40, 40, 40), (1.0, 1.0, 1.0), None, ())
)


def series(
    modality: str, body_part: str, shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> SeriesRef:
    said = {"body_part": body_part, "body_part_said": body_part}
    return replace(BLANK, modality=modality, shape=shape, spacing=spacing, **said)


HOSPITAL = {
    "head, T1": (
        series("MR", "BRAIN", (160, 256, 256), (1.0, 1.0, 1.0)),
        set(),
    ),
    "head, thick slices": (
        series("MR", "HEAD", (256, 256, 28), (0.9, 0.9, 5.0)),
        set(),
    ),
    "hippocampus": (
        series("MR", "HIPPOCAMPUS", (36, 50, 36), (1.0, 1.0, 1.0)),
        {"hippocampus_unetpp"},
    ),
    "heart": (series("MR", "HEART", (256, 216, 10), (1.4, 1.4, 8.0)), {"heart_cine"}),
    "liver": (series("MR", "ABDOMEN", (320, 260, 36), (1.2, 1.2, 6.0)), {"abdomen_mr"}),
    "chest on MR": (series("MR", "CHEST", (320, 260, 36), (1.2, 1.2, 6.0)), set()),
    "trunk": (
        series("CT", "CHESTABDPELVIS", (512, 512, 200), (0.8, 0.8, 3.0)),
        {"ct_trunk_unetpp"},
    ),
    "head on CT": (series("CT", "HEAD", (512, 512, 140), (0.4, 0.4, 1.0)), set()),
    "no body part": (series("MR", "", (256, 216, 10), (1.4, 1.4, 8.0)), set()),
    "knee": (series("MR", "KNEE", (320, 320, 30), (0.5, 0.5, 4.0)), set()),
    "volume in a NIfTI file": (
        replace(BLANK, kind="nifti", modality=None, shape=(160, 256, 256)),
        set(),
    ),
}


@pytest.mark.parametrize("name", HOSPITAL)
def test_every_series_gets_its_bundles_and_none_of_the_others(name: str) -> None:
    ref, wanted = HOSPITAL[name]
    fits = segment_all.fitting([ref], segment_all.selections())
    assert {bundle for bundle, (one,) in fits.items() if one.taken} == wanted


def test_who_narrows_the_bundles_vouches_for_series_that_do_not_name_their_body_part() -> None:
    refs = [HOSPITAL["no body part"][0], HOSPITAL["volume in a NIfTI file"][0]]
    fits = segment_all.fitting(refs, segment_all.selections("heart,abdomen"))
    assert list(fits) == ["heart_cine", "abdomen_mr"]
    assert [one.taken for one in fits["heart_cine"]] == [True, False]
    assert [one.taken for one in fits["abdomen_mr"]] == [True, False]


def test_bundles_for_pictures_and_those_that_another_replaces_run_by_name_only() -> None:
    usual = segment_all.names()
    assert "hippocampus_unet3d" not in usual
    assert not [name for name in usual if name.startswith(("nuclei", "em_"))]
    assert segment_all.names("hippocampus_unet3d") == ["hippocampus_unet3d"]
    assert segment_all.names("hippocampus") == ["hippocampus_unetpp"]
    with pytest.raises(InputError, match="--only spleen: no bundle is called so; there are"):
        segment_all.names("spleen")


def test_the_reason_is_that_of_the_bundle_that_comes_nearest() -> None:
    ref, _ = HOSPITAL["head on CT"]
    fits = segment_all.fitting([ref], segment_all.selections())
    why = segment_all.why_none(ref, {name: one for name, (one,) in fits.items()})
    assert why.startswith("none; ct_trunk_unetpp: body part HEAD")


def test_runs_side_by_side_are_read_as_one(tmp_path: Path) -> None:
    for bundle in ("brain", "heart"):
        (tmp_path / bundle).mkdir()
        with recording(tmp_path / bundle) as journal:
            enter(journal, bundle)
            enter(journal, "knee", State.UNFIT, "body part KNEE (wanted: HEAD)")
            enter(
                journal, "other", State.UNFIT if bundle == "heart" else State.FOUND, "modality CT"
            )
    rows = {row.name: row for row in read_view(tmp_path).rows}
    assert set(rows) == {"brain/brain", "heart/heart", "brain/other", "knee"}
    assert rows["knee"].reason == (
        "brain: body part KNEE (wanted: HEAD); heart: body part KNEE (wanted: HEAD)"
    )
    assert read_view(tmp_path).header.bundle == {"name": "brain, heart"}


@pytest.mark.slow
def test_one_report_holds_the_results_of_all_bundles(tmp_path: Path) -> None:
    size = {"columns": 30, "rows": 28, "slices": 24, "between_columns": 1.0, "between_rows": 1.0}
    crop = Phantom(name="crop", modality="MR", between_slices=1.0, **size)
    trunk = Phantom(name="trunk", study="other", columns=40, rows=40, slices=12, between_slices=8.0)
    for phantom, part in ((crop, "BRAIN"), (trunk, "ABDOMEN")):
        datasets = phantom.datasets()
        for ds in datasets:
            ds.BodyPartExamined = part
            ds.PixelSpacing = [1, 1] if phantom is crop else [8, 8]
        write(datasets, tmp_path / "in" / phantom.name)
    out = tmp_path / "out"
    assert segment_all.run([tmp_path / "in"], out, manner=Manner(workers=0)) == 0
    report = json.loads((out / "report.json").read_text())
    masks = {row["case"].split("/")[0]: row["files"]["mask"] for row in report["rows"]}
    assert set(masks) == {"hippocampus_unetpp", "ct_trunk_unetpp"}
    assert all((out / mask).is_file() for mask in masks.values())
