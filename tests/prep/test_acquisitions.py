"""Whose slices they are, which acquisitions they are of, and what their parts are said to be."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestseg_prep import phantom
from nestseg_prep.dicom import acquisition, gaps, grouping, header_text, phases
from nestseg_prep.dicom.findings import Code
from nestseg_prep.dicom.headers import Frame, Slice, read_header
from nestseg_prep.dicom.scan import scan
from nestseg_prep.dicom.stack import Stack, stack
from nestseg_prep.phantom import Phantom, every, moved, only, setting
from nestseg_prep.phantom.series import uid_from

CT = Phantom()
MR = Phantom(modality="MR")
MARKER = "QX44PLANT"


@pytest.fixture(scope="module")
def ct_slices(tmp_path_factory):
    """Slices of a clean series, as headers."""
    paths = phantom.write(CT.datasets(), tmp_path_factory.mktemp("ct"))
    headers = [read_header(path) for path in paths]
    return [Slice(header, header.frames[0]) for header in headers]


def with_phase(slices, **values):
    """The slices with settings of their own, by name and number of the slice."""
    result = []
    for number, (header, frame) in enumerate(slices):
        phase = dict(frame.phase)
        phase.update({name.replace("_", " "): str(of(number)) for name, of in values.items()})
        result.append(Slice(header, replace(frame, phase=phase)))
    return tuple(result)


def parts_of(slices):
    return [len(part.slices) for part in phases.along_the_stack(phases.Part(tuple(slices)))]


# --- Settings along the stack --------------------------------------------------------------------


@given(low=st.integers(70, 150), step=st.floats(-5, 5), name=st.sampled_from(["tube_voltage"]))
@settings(max_examples=30)
def test_a_setting_that_rises_or_falls_along_the_patient_parts_no_volume(
    low, step, name, ct_slices
):
    assert parts_of(with_phase(ct_slices, **{name: lambda n: low + step * n})) == [12]


def test_a_setting_that_changes_in_stages_parts_no_volume(tmp_path):
    paths = phantom.write(Phantom(columns=4, rows=3, slices=24).datasets(), tmp_path)
    slices = [Slice(header, header.frames[0]) for header in map(read_header, paths)]
    for stage in (3, 6, 8, 12):
        parts = parts_of(with_phase(slices, tube_voltage=lambda n, of=stage: 80 + 20 * (n // of)))
        assert len(parts) == (24 // stage if stage > 6 else 1)
    back_and_forth = with_phase(slices, tube_voltage=lambda n: 80 + 5 * abs(n % 12 - 6))
    assert parts_of(back_and_forth) == [24]
    # Where slices are unevenly spaced by themselves, that is no sign of two acquisitions.
    for name, value in (
        ("tube_voltage", lambda n: 80 + 5 * abs(n % 12 - 6)),
        ("trigger_time", lambda n: 300 + 50 * (n * n % 3)),
    ):
        assert parts_of(with_phase([*slices[:9], *slices[11:]], **{name: value})) == [22]


@given(
    values=st.lists(st.floats(1, 200), min_size=2, max_size=4, unique=True),
    name=st.sampled_from(["echo_time", "flip_angle", "inversion_time", "tube_voltage"]),
)
@settings(max_examples=30)
def test_settings_that_alternate_part_the_slices_in_the_order_of_their_values(
    values, name, ct_slices
):
    ordered = sorted(values)
    if any(b - a <= 0.03 * b for a, b in pairwise(ordered)):
        return  # one setting, as far as scanners write it
    slices = with_phase(ct_slices, **{name: lambda n: values[n % len(values)]})
    parts = phases.along_the_stack(phases.Part(slices))
    assert [len(part.slices) for part in parts] == [12 // len(values)] * len(values)
    tag = name.replace("_", " ")
    assert [float(part.slices[0].frame.phase[tag]) for part in parts] == ordered


@pytest.mark.parametrize(
    ("values", "sizes"),
    [
        ("AABABBABAABB", [12]),  # neither is evenly spaced, both together are
        ("AAAAAABBBBBB", [6, 6]),
        ("AAAAABAAAAAA", [12]),  # one odd slice
        ("AAAA BBBB CC", [12]),  # unknown in some: nothing says that they differ
        ("A A A A A A ", [6, 6]),
    ],
)
def test_parts_are_volumes_or_there_are_none(values, sizes, ct_slices):
    slices = with_phase(ct_slices, kernel=lambda n: values[n].strip())
    assert parts_of(slices) == sizes


def test_what_alternates_without_an_even_grid_is_parted_all_the_same(ct_slices):
    """Two acquisitions of which one lacks a slice are never taken for one with gaps."""
    slices = with_phase(ct_slices, echo_time=lambda n: (10, 90)[n % 2])
    assert sorted(parts_of([*slices[:5], *slices[6:]])) == [5, 6]


def test_acquisition_numbers_that_alternate_are_a_warning_and_blocks_are_none(ct_slices):
    alternating = phases.mixed(with_phase(ct_slices, acquisition=lambda n: n % 2))
    assert [finding.code for finding in alternating] == [Code.ALTERNATING_ACQUISITIONS]
    assert phases.mixed(with_phase(ct_slices, acquisition=lambda n: n // 6)) == []
    assert phases.mixed(with_phase(ct_slices, acquisition=lambda n: n)) == []


# --- What a part is said to be -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "texts", "said"),
    [
        ("echo", ["1", "2"], ["echo 1", "echo 2"]),
        ("trigger time", ["120.0", "1200"], ["trigger time 120 ms", "trigger time 1200 ms"]),
        ("frame time", ["1234567", "2234567"], ["frame time 1234567 ms", "frame time 2234567 ms"]),
        ("image type", ["M\\ND", "P\\ND"], ["magnitude", "phase"]),
        ("image type", ["M\\ND", "M\\DIS2D"], ["image type 1 of 2", "image type 2 of 2"]),
        ("kernel", ["B30f", MARKER], ["kernel 1 of 2", "kernel 2 of 2"]),
        ("quantity", ["HU", MARKER], ["quantity 1 of 2", "quantity 2 of 2"]),
        ("contrast agent", ["", MARKER], ["without contrast agent", "with contrast agent"]),
        ("b-value", ["", "1000"], ["no b-value", "b-value 1000 s/mm²"]),
        ("acquisition time", ["86400.5", "86430.5"],
         ["acquired 0 s after the first", "acquired 30 s after the first"]),
        ("time point", [MARKER, "nan"], ["time point 1 of 2", "time point 2 of 2"]),
    ],
)  # fmt: skip
def test_phrases_are_made_of_numbers_and_defined_terms_alone(name, texts, said):
    tag = acquisition.BY_NAME[name]
    assert acquisition.phrases(tag, [[text] for text in texts]) == said


def test_echo_and_component_are_both_said_and_numbers_are_in_order(tmp_path):
    echoes = phantom.phases(2, EchoNumbers=lambda n: 10 - 8 * n)(MR.datasets())
    both = phantom.phases(2, ImageType=lambda n: ["ORIGINAL", "PRIMARY", "MP"[n]])(echoes)
    phantom.write(both, tmp_path)
    refs = scan(tmp_path).accepted
    assert [ref.part for ref in refs] == [
        "echo 2, magnitude", "echo 2, phase", "echo 10, magnitude", "echo 10, phase",
    ]  # fmt: skip
    assert [ref.to_json()["part"] for ref in refs] == [ref.part for ref in refs]
    assert [ref.key[-2:] for ref in refs] == ["-1", "-2", "-3", "-4"]


def test_free_text_and_the_patient_stand_in_nothing_that_a_scan_says(tmp_path):
    first = phantom.with_marker(MARKER)(CT.datasets())
    second = moved(lambda _: (0, 0, 1.25))(first)
    for ds in second:
        ds.SOPInstanceUID = uid_from(f"{ds.SOPInstanceUID} second")
        ds.ConvolutionKernel = f"{MARKER}1"
    for ds in first:
        ds.ConvolutionKernel, ds.IssuerOfPatientID = f"{MARKER}0", MARKER
    paths = phantom.write([*first, *second], tmp_path)
    result = scan(tmp_path)
    assert len(result.accepted) == 2
    assert MARKER not in json.dumps(result.to_json()) + repr(result)
    header = read_header(paths[0])
    assert MARKER not in repr(header)
    assert all(header.patient)
    assert MARKER not in "".join(header.patient)


def test_a_header_comes_back_from_text_as_it_was(tmp_path):
    (path,) = phantom.write(
        every(setting(EchoTime="12.50", PatientID="7", BitsStored=12, HighBit=15))(MR.datasets())[
            :1
        ],
        tmp_path,
    )
    header = read_header(path)
    again = header_text.load(header_text.dump(header), path)
    assert vars(again) | {"frames": ()} == vars(header) | {"frames": ()}
    assert [vars(frame) for frame in again.frames] == [vars(frame) for frame in header.frames]
    assert isinstance(again.frames[0], Frame)
    assert again.frames[0].phase["echo time"] == "12.50"


# --- Whose slices they are -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patients", "owners", "code"),
    [
        ([("a", "x")] * 6, 1, None),
        ([("a", "x"), ("a", "x"), ("a", ""), ("", "")], 1, Code.PATIENT_UNNAMED),
        ([("a", "")] * 3 + [("b", "")] * 3, 2, Code.SPLIT_BY_PATIENT),
        ([("a", "x")] * 3 + [("a", "y")] * 3, 2, Code.SPLIT_BY_PATIENT),
        ([("a", "x")] * 3 + [("a", "y")] * 3 + [("a", "")], 2, Code.MIXED_OWNERS),
        ([("a", "")] * 3 + [("b", "")] * 3 + [("", "")] * 3, 2, Code.MIXED_OWNERS),
        ([("a", "")] * 5 + [("b", "")], 2, Code.MIXED_OWNERS),
        ([("", "")] * 3, 1, None),
    ],
)
def test_a_slice_belongs_to_the_one_patient_that_it_can_belong_to(
    patients, owners, code, ct_slices
):
    headers = [
        replace(header, patient=patient)
        for (header, _), patient in zip(ct_slices, patients, strict=False)
    ]
    found = grouping.by_owner(headers)
    assert len(found) == owners
    assert sum(len(one.headers) for one in found) == len(patients)
    codes = {finding.code for one in found for finding in one.findings}
    assert (code in codes) if code else not codes


def test_a_series_is_called_the_same_whoever_lies_beside_it(tmp_path):
    stranger = every(setting(PatientID="another"))(
        moved(lambda _: (0, 0, 500))(Phantom(name="x").datasets())
    )
    for ds in stranger:
        ds.SeriesInstanceUID = CT.datasets()[0].SeriesInstanceUID
    phantom.write(CT.datasets(), tmp_path / "alone" / "one")
    phantom.write(CT.datasets(), tmp_path / "both" / "one")
    phantom.write(stranger, tmp_path / "both" / "two")
    (alone,) = scan(tmp_path / "alone").accepted
    both = scan(tmp_path / "both").accepted
    assert len({ref.study_key for ref in both}) == 2
    assert alone.key in {ref.key for ref in both}
    assert all(Code.SPLIT_BY_PATIENT in {one.code for one in ref.findings} for ref in both)


def test_slices_with_a_uid_each_may_lie_in_a_folder_each(tmp_path):
    for number, ds in enumerate(CT.datasets()):
        ds.SeriesInstanceUID = uid_from(f"series {number}")
        phantom.write([ds], tmp_path / f"{number}")
    (ref,) = scan(tmp_path).series
    assert ref.refusal.code is Code.SERIES_PER_SLICE
    assert ref.refusal.detail == "12 series of one slice"


def test_three_slices_at_random_are_no_series(tmp_path):
    series = moved(lambda n: (0, 0, 40 * n * n))(CT.datasets())[:4]
    for number, ds in enumerate(series):
        ds.SeriesInstanceUID = uid_from(f"series {number}")
    phantom.write(series, tmp_path)
    assert {ref.refusal.code for ref in scan(tmp_path).series} == {Code.TOO_FEW_SLICES}


# --- The grid ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("along", "planes", "size"),
    [
        (np.cumsum([0, 2, 2, 2, 2, 2, 4, 4, 4, 4, 4, 4]), 18, 2.0),
        (np.cumsum([0, 1, 1, 1, 1.5, 1.5, 1.5]), 9, 0.9375),  # a part of a step at the end
        (np.array([0, 1.15, 2, 3, 3.9, 5]), 6, 1.0),  # jitter about equal distances
    ],
)
def test_an_interpolated_grid_ends_with_the_last_slice(along, planes, size):
    steps, (finding,) = gaps.judge(along.astype(float), None)
    assert finding.code is Code.UNEVEN_SPACING
    assert (steps.planes, steps.size) == (planes, size)
    assert steps.places[-1] == planes - 1


def test_distances_that_drift_by_a_fifth_of_a_voxel_are_uneven():
    """Each is near enough to the mean; together they carry slices away from an even grid."""
    drifting = np.cumsum([0.0, *[1.0] * 50, *[1.008] * 50])
    off = np.abs(drifting - np.linspace(0, drifting[-1], 101)).max()
    assert 0.15 < off < 0.25
    assert [finding.code for finding in gaps.judge(drifting, None)[1]] == [Code.UNEVEN_SPACING]


def test_slices_a_fifth_of_a_pixel_sideways_are_laid_where_they_are(ct_slices):
    """Within a tenth of a voxel they count as straight."""
    for share, straight in ((0.05, True), (0.2, False)):
        shifted = []
        for number, (header, frame) in enumerate(ct_slices):
            x, y, z = frame.position
            away = share * CT.between_columns * (number % 2)
            shifted.append(Slice(header, replace(frame, position=(x + away, y, z))))
        found = stack(shifted)
        assert isinstance(found, Stack)
        assert (not found.findings) == straight
        assert found.shape == ((32, 24, 12) if straight else (33, 24, 12))


# --- Rescaling -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lacking", "code"),
    [(range(12), Code.RESCALE_MISSING), ([0], Code.RESCALE_INCOMPLETE), ([], None)],
)
def test_a_rescale_is_there_for_all_slices_or_for_none(lacking, code, tmp_path):
    gone = setting(RescaleSlope=None, RescaleIntercept=None)
    phantom.write(only(lambda n: n in lacking, gone)(CT.datasets()), tmp_path)
    (ref,) = scan(tmp_path).series
    assert [finding.code for finding in ref.findings] == [code] * bool(code)
    assert ref.accepted == (code is not Code.RESCALE_INCOMPLETE)


def test_slices_of_other_modalities_need_a_rescale_only_where_it_does_something(tmp_path):
    for slope, accepted in ((1, True), (2, False)):
        change = setting(RescaleSlope=slope, RescaleIntercept=0)
        phantom.write(only(lambda n: n > 3, change)(MR.datasets()), tmp_path / f"{slope}")
        (ref,) = scan(tmp_path / f"{slope}").series
        assert ref.accepted == accepted
