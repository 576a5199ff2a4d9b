"""From DICOM series to a report, by the commands that people type."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from nestseg.batch.manner import Manner
from nestseg.cli.report import run as rebuild
from nestseg.cli.segment import run as segment
from nestseg.outputs.snapshot import read_snapshot
from nestseg_prep import phantom
from nestseg_prep.nifti import read_nifti

MARK = "ZZPLANTEDPATIENT"
CROP = phantom.Phantom(
    name=MARK,
    modality="MR",
    plane="oblique",
    columns=40,
    rows=36,
    slices=14,
    between_columns=0.9,
    between_rows=1.1,
    between_slices=2.6,
)


@pytest.fixture(scope="module")
def segmented(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two series, one of them with a slice too few, whose tags and paths name a patient."""
    source = tmp_path_factory.mktemp("in") / MARK
    for number in range(2):
        series = phantom.Phantom(**vars(CROP) | {"name": f"{MARK}{number}"}).datasets()
        noise = np.random.default_rng(number).normal(size=(14, 36, 40))
        smooth = ndimage.gaussian_filter(noise, 2.0)
        scaled = ((smooth - smooth.min()) / np.ptp(smooth) * 1000).astype(np.int32)
        for ds, values in zip(series, scaled, strict=True):
            phantom.set_pixels(ds, values)
        damaged = phantom.without_slice(9)(series) if number else series
        marked = phantom.marked_everywhere(MARK)(damaged)
        if not number:  # with the marker in both it would not be taken
            marked = phantom.every(phantom.setting(Modality="MR", BodyPartExamined="BRAIN"))(marked)
        phantom.write(marked, source / f"{MARK}_{number}")
    out, said = tmp_path_factory.mktemp("out"), StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        assert segment([source], "hippocampus_unetpp", out, manner=Manner(workers=0)) == 0
    (out / "said.txt").write_text(said.getvalue())
    return out


def test_a_run_ends_with_its_report(segmented: Path) -> None:
    made = json.loads((segmented / "report.json").read_text())
    assert made["totals"]["states"] == {"done": 1, "refused": 1}
    (row,) = [row for row in made["rows"] if row["state"] == "done"]
    assert set(row["volumes_ml"]) == {label["name"] for label in made["labels"]}
    assert {"read", "infer", "write"} <= set(row["stages"])
    shot = read_snapshot(segmented / row["files"]["snapshot"])
    assert shot.steps == (1, 1, 1)
    mask = read_nifti(segmented / row["files"]["mask"])
    (segmented / "small.nii.gz").write_bytes(shot.mask)
    small = read_nifti(segmented / "small.nii.gz")
    voxel = abs(np.linalg.det(mask.affine[:3, :3])) / 1000
    for place, label in enumerate(shot.labels, start=1):
        assert row["volumes_ml"][label.name] == pytest.approx(
            np.sum(small.array == place) * voxel, abs=1e-3
        )
    text = (segmented / "report.html").read_text()
    assert f'class="volume" data-key="{row["key"]}"' in text


def test_no_planted_patient_is_in_any_file_or_on_the_terminal(segmented: Path) -> None:
    written = [path for path in segmented.rglob("*") if path.is_file()]
    assert {".html", ".json", ".csv", ".snapshot", ".png", ".sqlite"} <= {p.suffix for p in written}
    assert "1 of 1 cases done" in (segmented / "said.txt").read_text()
    for path in written:
        assert MARK.lower().encode() not in path.read_bytes().lower(), path.name
        assert MARK not in path.name


def test_a_report_is_made_again(segmented: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in segmented.glob("report.*")}
    assert set(before) == {"report.html", "report.json", "report.csv"}
    for name in before:
        (segmented / name).unlink()
    rebuild(segmented)
    assert {path.name: path.read_bytes() for path in segmented.glob("report.*")} == before
    assert "report.html" in capsys.readouterr().out
    assert all(path.stat().st_mode & 0o077 == 0 for path in segmented.glob("report.*"))


def test_serve_says_where_and_ends_when_told(segmented: Path) -> None:
    code = (
        "import atexit, sys; from nestseg.cli import main\n"
        "atexit.register(lambda: print('torch' in sys.modules))\n"
        "main()"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", code, "serve", str(segmented)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert server.stdout
        address = server.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(address + "report.json", timeout=30) as answer:  # noqa: S310
            assert len(json.load(answer)["rows"]) == 2
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0
    note, torch = server.stdout.read().splitlines()
    server.stdout.close()
    assert "this machine alone" in note
    assert torch == "False"
