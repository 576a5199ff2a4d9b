"""The table that a run ends with says everything that a person should know."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nestseg.batch.read import facts_from
from nestseg.batch.states import Cause, Facts, Flag, State
from nestseg.batch.view import CaseRow, RunHeader, RunView
from nestseg.cli import summary, tables
from nestseg.report.sheet import sheet
from nestseg.report.table import table
from nestseg_prep.dicom.findings import Code, Finding

HEADER = RunHeader(labels={1: "nucleus"})
ML = Facts({"nucleus": 1.5})
PIXELS = Facts(pixels={"nucleus": 1755})
AREA = Facts(areas_mm2={"nucleus": 0.000439}, pixels={"nucleus": 1755})


def row(name: str, facts: Facts = ML, kind: str = "dicom", **changes: Any) -> CaseRow:
    modality = "MR" if kind == "dicom" else None
    made = CaseRow(
        *(name, name, kind, modality, (5, 6, 7), (1.0, 1.0, 1.0), (), State.DONE, None, "", 1),
        *((), facts, "", None, None),
    )
    return replace(made, **changes)


def shown(*rows: CaseRow) -> str:
    """What the terminal shows, as one line a case."""
    with tables.console.capture() as captured:
        summary.show(RunView(HEADER, rows))
    return " ".join(captured.get().split())


def test_flags_warnings_and_notes_stand_in_the_table_as_sentences() -> None:
    unsure = Flag("unlike-training", "the network is unsure")
    border = Flag("touches-border", "nucleus reaches the border of the image", "nucleus")
    found = [Finding(Code.UNEVEN_SPACING, "2.5 to 3 mm"), Finding(Code.PADDING_VALUE)]
    facts = replace(ML, uncertainty=0.1234, flags=(unsure, border), notes=("in small tiles",))
    text = shown(row("a", facts, findings=tuple(one.to_json() for one in found)))
    assert "uncertainty" in text
    assert " 0.123 " in text
    for part in (unsure.sentence, border.sentence, "not evenly spaced", "(2.5 to 3 mm)"):
        assert part in text
    assert "done: unlike-training, touches-border, uneven-spacing" in text
    assert "in small tiles" in text
    assert "filled pixels" not in text  # an info is no reason to look
    plain = shown(row("a"))
    assert "uncertainty" not in plain
    assert "To look at" not in plain


def test_a_warning_counts_as_something_to_look_at_in_the_report() -> None:
    tilted = Finding(Code.GANTRY_TILT).to_json()
    one, other = table(
        RunView(HEADER, (row("a", findings=(tilted,)), row("b", state=State.FAILED)))
    )["rows"]
    assert [flag["code"] for flag in one["flags"]] == ["gantry-tilt"]
    assert "upright grid" in one["flags"][0]["sentence"]
    assert other["flags"] == []


def test_the_modality_of_a_nifti_file_is_said_to_be_unknown() -> None:
    text = shown(row("a", kind="nifti"), row("b"))
    assert "not in the file" in text
    assert "1 files do not say their modality and body part" in text
    assert "do not say" not in shown(row("b"))
    unfit = row("c", kind="nifti", state=State.UNFIT, reason="field of view")
    assert "not in the file" in shown(unfit)


@pytest.mark.parametrize(
    ("facts", "unit", "cell"),
    [
        (ML, "ml", "1.50"),
        (Facts(pixels={"nucleus": 1_755_000}), "pixels", "1755000"),
        (PIXELS, "pixels", "1755"),
        (AREA, "mm²", "0.000439"),
    ],
)
def test_sizes_stand_under_their_own_unit(facts: Facts, unit: str, cell: str) -> None:
    one = row("a", facts, "picture")
    text = shown(one)
    assert f"nucleus {unit}" in text
    assert f" {cell} " in text
    made = table(RunView(HEADER, (one,)))
    headings, cells = (line.split(",") for line in sheet(made).splitlines())
    for wanted, other in (("ml", "volumes_ml"), ("mm²", "areas_mm2"), ("pixels", "pixels")):
        assert (f"nucleus {wanted}" in headings) == bool(made["rows"][0][other])
    assert float(cells[headings.index(f"nucleus {unit}")]) == float(cell)
    assert made["unit"] == unit


def test_sizes_of_several_units_are_never_mixed() -> None:
    pictures = [row(f"p{n}", Facts(pixels={"nucleus": 1000 + n}), "picture") for n in range(11)]
    view = RunView(HEADER, (row("volume", Facts({"nucleus": 900.0})), *pictures))
    text = shown(*view.rows)
    assert "nucleus pixels" in text
    assert "900.00 ml" in text
    made = table(view)
    assert made["labels"][0]["cohort"]["cases"] == 11
    assert not any(one["flags"] for one in made["rows"])
    far = row("far", Facts(pixels={"nucleus": 90_000}), "picture")
    flagged = table(RunView(HEADER, (*view.rows, far)))["rows"][-1]["flags"]
    assert [flag["code"] for flag in flagged] == ["unusual-size"]
    assert flagged[0]["sentence"].startswith("90000 pixels is far from the other cases' size")


def test_cases_with_something_to_look_at_come_before_the_others_in_a_long_table() -> None:
    border = replace(ML, flags=(Flag("touches-border", "it reaches the border"),))
    rows = [row(f"case{n:03d}") for n in range(80)] + [row("late", border)]
    rows.append(row("worst", state=State.FAILED, cause=Cause.ERROR, reason="an error"))
    text = shown(*rows)
    assert text.index("worst") < text.index("late") < text.index("case000")
    assert "and 32 more cases" in text


def test_facts_in_journals_of_earlier_versions_are_still_read() -> None:
    found = facts_from('{"volumes_ml": {"nucleus": 1.5}, "uncertainty": null, "notes": ["slow"]}')
    assert found == Facts({"nucleus": 1.5}, notes=("slow",))
    assert found.sizes.measured == ("ml", {"nucleus": 1.5})
