import json
import os
import shutil

import numpy as np
import pytest

from nestseg_prep import phantom
from nestseg_prep import prepare as prep
from nestseg_prep.errors import InputError
from nestseg_prep.nifti import read_nifti, write_nifti
from nestseg_prep.phantom import Phantom
from nestseg_prep.prepare import prepare

CT, MR = Phantom(), Phantom("sagittal", "MR", name="mr")
GAP = Phantom("coronal", name="gap")


@pytest.fixture
def hospital(tmp_path):
    root = tmp_path / "in"
    phantom.write(CT.datasets(), root / "ct")
    phantom.write(MR.datasets(), root / "mr")
    phantom.write(phantom.without_slice(4)(GAP.datasets()), root / "gap")
    (root / "notes.txt").write_text("hello")
    write_nifti(Phantom("oblique").truth, root / "image.nii.gz")
    return root


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def record(out):
    return json.loads((out / prep.RECORD_NAME).read_text())


def test_every_accepted_series_becomes_a_nifti_with_its_values_and_place(hospital, out):
    report = prepare(hospital, out)
    assert (report.count("written"), report.count("refused")) == (3, 1)
    volumes = {outcome.ref.series_uid: outcome.output for outcome in report.outcomes}
    for source in (CT, MR):
        volume = read_nifti(volumes[source.truth.series_uid])
        np.testing.assert_array_equal(volume.array, source.truth.array)
        np.testing.assert_allclose(volume.affine, source.truth.affine, atol=1e-3)
    assert len(list(out.glob("*.nii.gz"))) == 3


def test_the_record_names_every_series_and_why_one_is_refused(hospital, out):
    prepare(hospital, out)
    entries = record(out)["series"]
    assert [entry["state"] for entry in entries].count("refused") == 1
    (refused,) = [entry for entry in entries if entry["state"] == "refused"]
    (finding,) = refused["findings"]
    assert finding["code"] == "missing-slice"
    assert finding["remedy"]
    assert record(out)["others"] == {"not-an-image-file": 1}
    for entry in entries:
        assert ("output" in entry) == (entry["state"] == "written")


def test_a_second_run_keeps_what_is_there_and_makes_what_is_not(hospital, out):
    first = prepare(hospital, out)
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("*.nii.gz")}
    assert prepare(hospital, out).count("kept") == 3
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.nii.gz")} == stamps
    gone, cut, _ = (outcome.output for outcome in first.outcomes if outcome.output)
    gone.unlink()
    phantom.cut_file(cut, 0.5)
    again = prepare(hospital, out)
    assert (again.count("written"), again.count("kept")) == (2, 1)
    read_nifti(cut)


def test_a_changed_input_is_prepared_again(hospital, out):
    prepare(hospital, out)
    os.utime(hospital / "ct" / "0003.dcm", ns=(1, 1))
    assert prepare(hospital, out).count("written") == 1


def test_a_series_that_fails_stops_no_other(hospital, out, monkeypatch):
    real = prep.read_volume

    def read(ref):
        if ref.modality == "CT":
            raise InputError("series: slice 3 of 12 cannot be read; send it again")
        return real(ref)

    monkeypatch.setattr(prep, "read_volume", read)
    seen = []
    report = prepare(hospital, out, on_series=seen.append)
    assert (report.count("failed"), report.count("written")) == (1, 2)
    assert seen == list(report.outcomes)
    assert [entry["error"] for entry in record(out)["series"] if entry["state"] == "failed"] == [
        "series: slice 3 of 12 cannot be read; send it again"
    ]
    monkeypatch.undo()
    assert prepare(hospital, out).count("written") == 1


def test_an_interrupted_run_resumes_where_it_stopped(hospital, out):
    def stop(outcome):
        if outcome.state == "written":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(hospital, out, on_series=stop)
    report = prepare(hospital, out)
    assert (report.count("kept"), report.count("written")) == (1, 2)


def test_a_record_that_cannot_be_read_costs_work_but_no_output(hospital, out):
    prepare(hospital, out)
    for text in ("{", "[]", '{"version": 1, "series": [3]}', '{"version": 0, "series": []}'):
        (out / prep.RECORD_NAME).write_text(text)
        assert prepare(hospital, out).count("written") == 3


def test_an_output_inside_the_input_is_refused(hospital):
    for out in (hospital, hospital / "out", hospital / "ct" / ".." / "deep"):
        with pytest.raises(InputError, match="inside the input"):
            prepare(hospital, out)


def test_an_output_that_cannot_be_written_is_refused_before_any_work(hospital, out):
    out.write_text("a file")
    with pytest.raises(InputError, match="cannot be written"):
        prepare(hospital, out)


def test_an_input_that_does_not_exist_is_refused(tmp_path, out):
    with pytest.raises(InputError, match="no such folder"):
        prepare(tmp_path / "nothing", out)


def test_an_archive_is_prepared_once_and_leaves_nothing_behind(tmp_path):
    phantom.write(Phantom().datasets(), tmp_path / "study")
    (tmp_path / "in").mkdir()
    shutil.make_archive(str(tmp_path / "in" / "study"), "zip", tmp_path / "study")
    for state in ("written", "kept"):
        (outcome,) = prepare(tmp_path / "in", tmp_path / "out").outcomes
        assert outcome.state == state
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"series.json", outcome.output.name}
