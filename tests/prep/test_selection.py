"""Which series are taken: by each rule alone, and one of a study."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from nestseg_prep import phantom
from nestseg_prep.cohort import inputs
from nestseg_prep.dicom.findings import Code
from nestseg_prep.dicom.headers import read_header
from nestseg_prep.dicom.references import SeriesRef
from nestseg_prep.dicom.scan import scan
from nestseg_prep.errors import InputError
from nestseg_prep.nifti import write_nifti
from nestseg_prep.phantom import Phantom
from nestseg_prep.selection import RULES, Selection, read_rules

LUNG = {
    "SeriesDescription": "Thorax LUNG 1.0",
    "BodyPartExamined": "CHEST",
    "ConvolutionKernel": ["B70f", "3"],
    "AcquisitionDateTime": "20260301101500",
}


def written(folder: Path, *series: tuple[Phantom, dict[str, object]]) -> list[SeriesRef]:
    """Phantoms with values of header tags, as a scan sees them, in the order given."""
    uids = []
    for number, (clean, tags) in enumerate(series):
        datasets = phantom.every(phantom.setting(**tags))(clean.datasets())
        phantom.write(datasets, folder / str(number))
        uids.append(datasets[0].SeriesInstanceUID)
    return sorted(scan(folder).series, key=lambda ref: uids.index(ref.series_uid))


PHASE_IMAGE = ["ORIGINAL", "PRIMARY", "P", "ND"]
ADC_MAP = ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]


@pytest.mark.parametrize(
    ("modality", "tags", "quantity"),
    [
        ("CT", {}, ""),
        ("CT", {"RescaleType": None}, ""),
        ("CT", {"RescaleType": "MGML"}, "MGML"),
        ("CT", {"RescaleType": "Z_EFF"}, "Z_EFF"),
        ("CT", {"RescaleType": "US"}, ""),  # as many scanners write in plain CT
        ("CT", {"RescaleType": "Jane Doe"}, "OTHER"),
        ("CT", {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "ELECTRON_DENSITY"]}, "ED"),
        ("MR", {}, ""),
        ("MR", {"ImageType": PHASE_IMAGE}, "PHASE"),
        ("MR", {"ImageType": ADC_MAP}, "ADC"),
        ("MR", {"ComplexImageComponent": "IMAGINARY"}, "IMAGINARY"),
    ],
)
def test_a_bundle_for_a_modality_takes_its_plain_values_unless_its_rules_ask(
    modality, tags, quantity, tmp_path
):
    (ref,) = written(tmp_path, (Phantom(modality=modality), tags))
    assert ref.accepted
    assert ref.quantity == quantity
    assert (Code.OTHER_QUANTITY in {one.code for one in ref.findings}) == bool(quantity)
    plain = Selection([modality])
    assert (plain.why_not(ref) is None) == (not quantity)
    if quantity:
        assert plain.why_not(ref).startswith(f"values {quantity}; the bundle takes")
        assert Selection([modality], quantities=["", quantity]).why_not(ref) is None
    assert Selection().why_not(ref) is None


@pytest.fixture
def lung(tmp_path: Path) -> SeriesRef:
    """22 × 19 × 30 mm axial CT with slices of 2.5 mm."""
    return written(tmp_path, (Phantom(), LUNG))[0]


@pytest.mark.parametrize(
    ("rules", "fits"),
    [
        ({}, True),
        ({"modalities": ["CT", "PT"]}, True),
        ({"modalities": ["MR"]}, False),
        ({"body_parts": ["chest", "THORAX"]}, True),
        ({"body_parts": ["HEAD"]}, False),
        ({"planes": ["axial"]}, True),
        ({"planes": ["sagittal", "oblique"]}, False),
        ({"slice_mm": [2.5, 2.5]}, True),
        ({"slice_mm": [0.5, 2]}, False),
        ({"extent_mm": [19, 30]}, True),
        ({"extent_mm": [20, 30]}, False),
        ({"kernels": ["b7*"]}, True),
        ({"kernels": ["B3*", ""]}, False),
        ({"descriptions": ["*lung*"]}, True),
        ({"descriptions": ["lung"]}, False),
        ({"not_descriptions": ["*scout*", "*mip*"]}, True),
        ({"not_descriptions": ["*scout*", "*LUNG*"]}, False),
        ({"modalities": ["CT"], "planes": ["axial"], "kernels": ["B30*"]}, False),
    ],
)
def test_each_rule_takes_what_fits_and_nothing_else(
    lung: SeriesRef, rules: dict[str, list[str]], fits: bool
) -> None:
    selection = Selection.from_rules(rules, "rules")
    assert (selection.why_not(lung) is None) is fits
    (decision,) = selection.decide([lung])
    assert decision.taken is fits
    assert bool(decision.reason) is not fits
    assert [check.passed for check in decision.checks].count(False) == (not fits)


def test_a_header_that_says_nothing_fits_only_an_empty_text(tmp_path: Path) -> None:
    (ref,) = written(tmp_path, (Phantom(), {"SeriesDescription": ""}))
    assert "body part none" in str(Selection(body_parts=["HEAD"]).why_not(ref))
    assert Selection(body_parts=["HEAD", ""]).why_not(ref) is None
    assert Selection(kernels=["*"]).why_not(ref) is None
    assert Selection(not_descriptions=["*scout*"]).why_not(ref) is None


def test_reasons_never_hold_free_text_of_the_header(lung: SeriesRef) -> None:
    for rules in ({"descriptions": ["x"]}, {"kernels": ["x"]}, {"not_descriptions": ["*lung*"]}):
        selection = Selection.from_rules(rules, "rules")
        (check,) = selection.checks(lung)
        assert "Thorax" not in str(selection.why_not(lung))
        assert "B70" not in str(selection.why_not(lung))
        assert check.shown(show_phi=False) == "not shown"
        assert check.shown(show_phi=True) in {"Thorax LUNG 1.0", "B70f\\3"}


def test_a_nifti_file_is_judged_by_its_geometry_alone(tmp_path: Path) -> None:
    write_nifti(Phantom(plane="coronal").truth, tmp_path / "a.nii.gz")
    (ref,) = scan(tmp_path).series
    assert Selection(["MR"], body_parts=["HEAD"], descriptions=["x"]).why_not(ref) is None
    assert Selection(planes=["coronal"], slice_mm=[2, 3]).why_not(ref) is None
    assert "plane coronal" in str(Selection(planes=["axial"]).why_not(ref))


def test_what_a_nifti_file_does_not_say_is_called_unknown(tmp_path: Path) -> None:
    write_nifti(Phantom().truth, tmp_path / "a.nii.gz")
    (ref,) = scan(tmp_path).series
    (decision,) = Selection(["MR"], body_parts=["HEAD*", ""]).decide([ref])
    assert decision.taken
    assert [(check.rule, check.found, check.wanted) for check in decision.checks] == [
        ("modality", "unknown", "MR"),
        ("body part", "unknown", "HEAD*, none"),
    ]
    assert not Selection(planes=["axial"]).checks(ref)[1:]


@pytest.mark.parametrize(
    ("marks", "winner"),
    [
        (["thinnest", "newest"], 1),
        (["most_slices"], 2),
        (["newest"], 0),
        (["thinnest", "most_slices", "newest"], 1),
    ],
)
def test_one_series_of_a_study_is_taken_by_the_marks_in_turn(
    tmp_path: Path, marks: list[str], winner: int
) -> None:
    series = written(
        tmp_path,
        (Phantom(name="a"), LUNG | {"AcquisitionDateTime": "20260301101700"}),
        (Phantom(name="b", between_slices=1.0), LUNG),
        (Phantom(name="c", slices=14), LUNG),
        (Phantom(name="d", study="another"), LUNG),
    )
    decisions = Selection(one_per_study=marks).decide(series)
    taken = [number for number, one in enumerate(decisions) if one.taken]
    assert taken == [winner, 3]
    assert all(series[winner].key in one.reason for one in decisions if not one.taken)


def test_only_series_that_fit_and_can_be_read_compete(tmp_path: Path) -> None:
    thin = Phantom(name="thin", between_slices=0.5)
    series = written(
        tmp_path,
        (Phantom(name="fits"), LUNG),
        (thin, LUNG | {"SeriesDescription": "scout"}),
        (replace(thin, name="short", slices=2), LUNG),
    )
    chosen = Selection(not_descriptions=["scout"], one_per_study=["thinnest"]).decide(series)
    assert [one.taken for one in chosen] == [True, False, False]


def test_equals_are_told_apart_by_their_key_whatever_their_order(tmp_path: Path) -> None:
    series = written(tmp_path, (Phantom(name="a"), {}), (Phantom(name="b"), {}))
    rule = Selection(one_per_study=["thinnest", "newest"])
    first = [one.ref.key for one in rule.decide(series) if one.taken]
    second = [one.ref.key for one in rule.decide(series[::-1]) if one.taken]
    assert first == second == [min(ref.key for ref in series)]


def test_series_without_study_are_no_rivals(tmp_path: Path) -> None:
    series = written(
        tmp_path, *((Phantom(name=name), {"StudyInstanceUID": ""}) for name in ("a", "b"))
    )
    assert all(one.taken for one in Selection(one_per_study=["newest"]).decide(series))


def test_the_cases_of_a_bundle_are_one_of_a_study_too(tmp_path: Path) -> None:
    written(tmp_path, (Phantom(name="a"), {}), (Phantom(name="b", slices=20), {}))
    (case,) = inputs(tmp_path, Selection(one_per_study=["most_slices"]))
    assert case["image"].shape == (32, 24, 20)


def test_the_kernel_of_an_enhanced_ct_is_found_in_what_its_frames_share(tmp_path: Path) -> None:
    reconstruction, shared = Dataset(), Dataset()
    reconstruction.ConvolutionKernel = "Br40"
    shared.CTReconstructionSequence = [reconstruction]
    (one, *_) = Phantom().datasets()
    one.SharedFunctionalGroupsSequence = [shared]
    (path,) = phantom.write([one], tmp_path)
    assert read_header(path).kernel == "Br40"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("modality: [CT]", "no such rule: modality"),
        ("modalities: CT", "modalities: not a list"),
        ("modalities: []", "modalities: not a list"),
        ("slice_mm: [3, 1]", "slice_mm: not a smallest and a largest"),
        ("slice_mm: [yes, 2]", "slice_mm: not a smallest and a largest"),
        ("planes: [transverse]", "no such value: transverse"),
        ("one_per_study: [best]", "no such value: best"),
        ("- CT", "holds no rules"),
        ("a: b: c", "is no YAML"),
        ("!!python/object/apply:os.system [ls]", "is no YAML"),
    ],
)
def test_wrong_rules_are_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        Selection().changed(read_rules(path), path.name)


def test_a_file_replaces_the_rules_that_it_names_and_drops_those_of_null(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("extent_mm: null\nmodalities: [CT]\n")
    before = Selection(["MR"], (20, 90), planes=["axial"])
    after = before.changed(read_rules(path), path.name)
    assert (after.modalities, after.extent_mm, after.planes) == (("CT",), None, ("axial",))
    assert set(RULES) == set(vars(after))
