import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from nestseg_prep import phantom
from nestseg_prep import prepare as prep
from nestseg_prep.dicom.scan import scan
from nestseg_prep.errors import InputError, OutputError
from nestseg_prep.nifti import read_nifti, write_nifti
from nestseg_prep.phantom import Phantom
from nestseg_prep.prepare import prepare
from nestseg_prep.reading import read_volume

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
    with pytest.raises(OutputError, match="cannot be written"):
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
    assert names == {"series.json", ".nestseg-key", outcome.output.name}


# --- The same image for a network, whichever way it came ------------------------------------------


def padding(stored, value, limit=None, representation="US"):
    """A frame of stored values around unsigned or signed images, and how the header declares it."""

    def change(ds):
        signed = representation == "SS"
        pixels = phantom.get_pixels(ds).astype(int) - (1024 if signed else 0)
        pixels[:3], pixels[:, -2:] = stored[0], stored[-1]
        ds.PixelRepresentation, ds.RescaleIntercept = int(signed), 0 if signed else -1024
        phantom.set_pixels(ds, pixels)
        ds.add_new("PixelPaddingValue", representation, value)
        if limit is not None:
            ds.add_new("PixelPaddingRangeLimit", representation, limit)

    return change


PADDINGS = {
    "signed": padding([-2000], -2000, representation="SS"),
    "unsigned": padding([63536], 63536),
    "unsigned, above all others": padding([65535], 65535),
    "a range": padding([40_000, 40_500], 39_900, 40_600),
    "a signed range": padding([-3024, -2048], -3024, -2000, representation="SS"),
}


@pytest.mark.parametrize("name", PADDINGS)
@pytest.mark.parametrize("damage", [lambda series: series, phantom.tilted(15)], ids=["", "tilted"])
def test_a_prepared_image_is_what_segment_takes_from_the_dicom_series(name, damage, tmp_path, out):
    series = damage(phantom.every(PADDINGS[name])(CT.datasets()))
    phantom.write(series, tmp_path / "in")
    (ref,) = scan(tmp_path / "in").accepted
    direct = read_volume(ref)
    (outcome,) = prepare(tmp_path / "in", out).outcomes
    (again,) = scan(outcome.output).accepted
    prepared = read_volume(again)
    np.testing.assert_array_equal(prepared.image, direct.image)
    np.testing.assert_allclose(prepared.affine, direct.affine, atol=1e-3)
    inside = CT.truth.array[:-2, :-3]  # rows are stored from top to bottom
    assert direct.image.min() >= inside.min()
    assert direct.image.max() <= CT.truth.array.max()


def test_a_set_with_padding_of_an_earlier_version_is_made_again(hospital, out):
    prepare(hospital, out)
    text = (out / prep.RECORD_NAME).read_text()
    (out / prep.RECORD_NAME).write_text(text.replace('"version": 2', '"version": 1'))
    assert prepare(hospital, out).count("written") == 3


# --- The record ----------------------------------------------------------------------------------

KILLED = """
import os, sys
from pathlib import Path
from nestseg_prep.prepare import prepare
from nestseg_prep.reading import read_volume
def die(outcome, seen=[]):
    seen.append(outcome.state)
    if seen.count("written") == int(sys.argv[3]):
        os._exit(9)
prepare(Path(sys.argv[1]), Path(sys.argv[2]), on_series=die)
"""


def test_a_killed_run_and_one_killed_again_lose_nothing(hospital, out):
    for written in (1, 1):
        words = [sys.executable, "-c", KILLED, hospital, out, str(written)]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        assert subprocess.run(words, check=False, env=env).returncode == 9
    report = prepare(hospital, out)
    assert (report.count("kept"), report.count("written")) == (2, 1)
    assert {path.name for path in out.iterdir() if path.suffix != ".gz"} == {
        *(prep.RECORD_NAME, ".nestseg-key")
    }
    assert len(record(out)["series"]) == 4


@pytest.mark.parametrize("cut", [1, 30, 5000])
def test_a_log_that_breaks_off_costs_its_last_line_at_most(cut, hospital, out):
    report = prepare(hospital, out)
    entries = record(out)["series"]
    (out / prep.RECORD_NAME).unlink()
    lines = [json.dumps(line) + "\n" for line in (2, *entries)]
    whole = "".join(lines)
    (out / ".series.jsonl").write_text(whole[:-cut])
    kept = sum(
        state["state"] == "written" and whole[:-cut].count(json.dumps(state)) for state in entries
    )
    again = prepare(hospital, out)
    assert again.count("kept") == kept
    assert again.count("kept") + again.count("written") == report.count("written")


def test_the_record_is_written_once_however_many_series_there_are(hospital, out, monkeypatch):
    calls = []
    real = prep._write_record
    monkeypatch.setattr(prep, "_write_record", lambda *words: (calls.append(1), real(*words)))
    prepare(hospital, out)
    assert len(calls) == 1
    assert len(record(out)["series"]) == 4
