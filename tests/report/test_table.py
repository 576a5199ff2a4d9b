"""Rows, totals and cohorts of a run, and the same as CSV."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nestseg import report
from nestseg.batch.read import read_view
from nestseg.batch.states import Facts, State
from nestseg.batch.view import CaseRow, RunHeader, RunView
from nestseg.report.cohort import FAR, FEWEST_CASES, cohort
from nestseg.report.sheet import sheet
from nestseg.report.table import table
from nestseg_prep.errors import InputError

from .runs import enter, facts, finish, recording

POSITIVE = st.floats(0.01, 1e4)


@given(st.lists(POSITIVE, min_size=FEWEST_CASES, max_size=60))
def test_scores_are_those_of_scipy(volumes: list[float]) -> None:
    made = cohort({str(place): volume for place, volume in enumerate(volumes)})
    spread = stats.median_abs_deviation(volumes, scale="normal")
    assert made.median == pytest.approx(np.median(volumes))
    if spread == 0:
        assert not made.scores
    elif spread > 1e-9 * made.median:
        expected = (np.array(volumes) - np.median(volumes)) / spread
        np.testing.assert_allclose(list(made.scores.values()), expected, rtol=1e-3, atol=1e-3)


def test_few_cases_have_no_usual_volume() -> None:
    volumes = {str(place): 10.0 + place % 3 for place in range(FEWEST_CASES - 2)} | {"far": 500.0}
    assert not cohort(volumes).is_far("far")
    enough = cohort(volumes | {"one more": 11.0})
    assert enough.is_far("far")
    assert not enough.is_far("one more")


@given(
    power=st.integers(-10, 10), volumes=st.lists(POSITIVE, min_size=12, max_size=30, unique=True)
)
def test_who_is_far_does_not_depend_on_the_unit(power: int, volumes: list[float]) -> None:
    names = {str(place): volume for place, volume in enumerate(volumes)}
    scaled = cohort({name: volume * 2.0**power for name, volume in names.items()})
    plain = cohort(names)
    for name, score in plain.scores.items():
        if abs(abs(score) - FAR) > 1e-3:
            assert plain.is_far(name) == scaled.is_far(name)


def test_a_report_has_a_row_for_everything(run: Path) -> None:
    made = table(read_view(run))
    totals = made["totals"]
    assert totals["cases"] == 15
    assert totals["states"] == {
        "does-not-fit": 1,
        "done": 12,
        "failed": 1,
        "found": 1,
        "quarantined": 1,
        "refused": 1,
    }
    assert totals["flags"] == {"touches-border": 1, "unusual-volume": 1}
    assert (totals["median_seconds"], totals["peak_memory_mb"]) == (4.5, 900.0)
    rows = {row["case"]: row for row in made["rows"]}
    (flag,) = rows["case05"]["flags"]
    assert (flag["code"], flag["label"]) == ("unusual-volume", "front")
    assert flag["sentence"].startswith("30 ml is far from the other cases' volume")
    assert rows["poison"]["cause"] == "killed"
    assert rows["poison"]["volumes_ml"] == {}
    assert rows["waiting"]["seconds"] is None
    assert [label["colour"] for label in made["labels"]] == ["#ff5c33", "#33bbff"]
    assert made["labels"][0]["cohort"]["cases"] == 12


def test_shards_become_one_report(tmp_path: Path) -> None:
    for shard in (1, 2, 3):
        with recording(tmp_path, (shard, 3)) as journal:
            journal.note(shard_count=3)
            for number in range(shard, 13, 3):
                far = number == 7  # the volume is unusual among all, not in its shard
                finish(journal, f"n{number}", facts(90.0 if far else 10 + number / 10, 5.0))
            if shard == 2:
                enter(journal, "gaps", State.REFUSED, "At least one slice is missing.")
    report.write(tmp_path)
    made = json.loads((tmp_path / "report.json").read_text())
    assert made["totals"]["cases"] == 12
    assert made["run"]["shards"] == [3, 3]
    assert {row["case"] for row in made["rows"] if row["flags"]} == {"n7"}


def test_a_folder_without_a_journal_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no journal"):
        report.write(tmp_path)
    assert not list(tmp_path.iterdir())


def row(name: str, reason: str, label: str, volume: float) -> CaseRow:
    return CaseRow(
        name=name,
        key=name,
        kind="nifti",
        modality=None,
        shape=(1, 2, 3),
        spacing=(1.0, 1.0, 2.5),
        findings=(),
        state=State.DONE,
        cause=None,
        reason=reason,
        attempts=1,
        outputs=(),
        facts=Facts({label: volume}),
        input_digest="",
        started=None,
        finished=None,
    )


@settings(max_examples=40)
@given(
    text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
    start=st.sampled_from(["", "=", "+", "-", "@", "\t", "\r", "=1+1", '"', ";"]),
    volume=st.floats(-1e3, 1e3),
)
def test_no_cell_starts_a_formula_and_none_is_lost(text: str, start: str, volume: float) -> None:
    words = start + text
    made = table(RunView(RunHeader(), (row("=cmd", words, words, volume),)))
    headings, cells = csv.reader(io.StringIO(sheet(made), newline=""))
    assert len(headings) == len(cells)
    found = dict(zip(headings, cells, strict=True))
    assert found["case"] == "'=cmd"
    assert found["reason"].removeprefix("'") == words.removeprefix("'")
    for cell in (*headings, found["case"], found["reason"]):
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    (measured,) = [cell for head, cell in found.items() if head.endswith(" ml")]
    assert float(measured) == volume  # numbers stay numbers, also below zero


def test_the_csv_has_units_and_opens_as_utf8(run: Path) -> None:
    report.write(run)
    content = (run / "report.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    assert len(rows) == 17
    assert rows[5]["front ml"] == "30.0"
    assert rows[5]["flags"] == "unusual-volume (front)"
    assert rows[5]["infer s"] == "3.0"
