"""The commands of choice, privacy and the network, as a person runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.sr.codedict import codes

from nestseg.cli import main
from nestseg.cli.deidentify import results
from nestseg.cli.receive import Work, _segment
from nestseg.cli.segment_options import SegmentWords
from nestseg.pacs.tls import Tls
from nestseg_prep import phantom
from nestseg_prep.dicom.scan import scan
from nestseg_prep.errors import InputError
from nestseg_prep.phantom import Phantom
from nestseg_prep.reading import read_volume

from .conftest import CT, MR, as_file, association, push

for name in ("pynetdicom", "dicomweb_client"):
    pytest.importorskip(name, reason="needs the extra `pacs`")

BUNDLE = "hippocampus_unetpp"
MARK = "MARKER^PLANTED"


def nestseg(*arguments: object, code: int = 0) -> tuple[str, str]:
    words = [sys.executable, "-m", "nestseg.cli", *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, done.stderr


def refused(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """What the command says on stderr before it leaves with code 2."""
    monkeypatch.setattr(sys, "argv", ["nestseg", *words])
    with warnings.catch_warnings(), pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    return capsys.readouterr().err


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two MR series that a bundle may take, and a CT that it may not; all name their patient."""
    plant = phantom.with_marker(MARK)
    crop = {"modality": "MR", "columns": 40, "rows": 36}
    for name, clean in {
        "thick": Phantom(name="thick", slices=12, **crop),
        "thin": Phantom(name="thin", slices=24, between_slices=1.25, **crop),
        "ct": Phantom(name="ct"),
    }.items():
        phantom.write(plant(clean.datasets()), tmp_path / "study" / name)
    return tmp_path / "study"


def test_scan_explains_rule_by_rule_without_names(study: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("not_descriptions: ['*scout*']\n")
    command = ("scan", study, "--bundle", BUNDLE, "--select", rules, "--one-per-study", "--json")
    said, _ = nestseg(*command)
    report = {tuple(one["shape"]): one for one in json.loads(said)["series"]}
    ct, thick, thin = (report[shape] for shape in ((32, 24, 12), (40, 36, 12), (40, 36, 24)))
    assert thin["taken"]
    assert thin["why_not"] == ""
    assert thick["why_not"].endswith("of its study has thinner slices")
    assert ct["why_not"] == "modality CT; the bundle takes MR"
    assert {
        "rule": "description",
        "passed": True,
        "found": "not shown",
        "wanted": "none like *scout*",
    } in ct["checks"]
    assert "MARKER" not in said
    assert MARK in nestseg(*command, "--show-phi")[0]
    table, _ = nestseg(*command[:-1], "--explain")
    assert "1 of 3 series taken" in table
    assert "MARKER" not in table


def test_explaining_needs_no_deep_learning_stack(study: Path) -> None:
    code = (
        "import sys; from nestseg.cli import app\n"
        f"app(['scan', {str(study)!r}, '-b', {BUNDLE!r}], standalone_mode=False)\n"
        "import nestseg.cli.receive, nestseg.cli.deidentify\n"
        "print(sorted({'torch', 'monai', 'pynetdicom', 'dicomweb_client'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("module", "command", "extra"),
    [
        ("pynetdicom", ["send", "X", "--to", "dicom://A@127.0.0.1:1"], "pacs"),
        ("dicomweb_client", ["send", "X", "--to", "dicomweb://127.0.0.1:1"], "pacs"),
    ],
)
def test_a_missing_extra_is_one_line_that_says_how_to_get_it(
    module: str,
    command: list[str],
    extra: str,
    study: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [{"X": str(study), "OUT": str(tmp_path / "o")}.get(word, word) for word in command]
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    errors = refused(words, monkeypatch, capsys)
    assert f"pip install 'nestseg[{extra}]'" in errors
    assert errors.count("\n") == 1


def test_deidentify_writes_what_can_go_and_says_what_cannot(study: Path, tmp_path: Path) -> None:
    burnt = phantom.every(phantom.setting(BurnedInAnnotation="YES"))
    phantom.write(burnt(Phantom(name="burnt", slices=2).datasets()), study / "burnt")
    (study / "notes.txt").write_text("no image")
    out = tmp_path / "out"
    said, errors = nestseg("deidentify", study, "-o", out, code=1)
    assert "48 files written" in said
    assert "2 left out: each says that text is burnt into its pixels" in errors
    assert "may show a face" in errors
    assert "MARKER" not in said + errors
    assert not any(b"MARKER" in path.read_bytes() for path in out.rglob("*.dcm"))
    for before, after in zip(_volumes(study), _volumes(out), strict=True):
        np.testing.assert_array_equal(before, after)


def _volumes(folder: Path) -> list[np.ndarray]:
    read = [read_volume(ref).array for ref in scan(folder).accepted]
    return sorted(read, key=lambda array: (array.shape, array.dtype.str))


def test_results_lose_their_patient_and_still_point_at_the_deidentified_images(
    tmp_path: Path,
) -> None:
    series = phantom.with_marker(MARK)(Phantom(slices=5).datasets())
    files = phantom.write(series, tmp_path / "in")
    images = [dcmread(path) for path in files]
    mask = np.zeros((5, 24, 32), np.uint8)
    mask[1:4, 5:9, 7:20] = 1
    label = hd.seg.SegmentDescription(
        1,
        "kidney",
        codes.SCT.Organ,
        codes.SCT.Kidney,
        hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        hd.AlgorithmIdentificationSequence("nestseg", codes.DCM.ArtificialIntelligence, "1"),
    )
    out = tmp_path / "out"
    out.mkdir()
    hd.seg.Segmentation(
        images,
        mask,
        "BINARY",
        [label],
        hd.UID(),
        900,
        hd.UID(),
        1,
        "nestseg",
        "test",
        "1",
        "1",
        omit_empty_frames=False,
    ).save_as(out / "a_seg.dcm")
    results(out)
    results(out)  # UIDs change once
    (path,) = out.iterdir()
    result = hd.seg.segread(path)
    assert b"MARKER" not in path.read_bytes()
    nestseg("deidentify", tmp_path / "in", "-o", tmp_path / "images")
    open_images = [dcmread(one) for one in (tmp_path / "images").rglob("*.dcm")]
    assert result.StudyInstanceUID == open_images[0].StudyInstanceUID
    assert result.PatientID == open_images[0].PatientID
    open_images.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
    found = result.get_pixels_by_source_instance(
        [ds.SOPInstanceUID for ds in open_images], combine_segments=True
    )
    np.testing.assert_array_equal(found, mask)


def test_a_result_that_may_name_somebody_is_not_left_behind(tmp_path: Path) -> None:
    (path,) = phantom.write(Phantom(slices=1).datasets(), tmp_path)
    ds = dcmread(path)
    ds.BurnedInAnnotation = "YES"
    ds.save_as(path)
    with pytest.raises(InputError, match="deleted"):
        results(tmp_path)
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["segment", "-b", BUNDLE, "-o", "OUT"], "give folders or files, or --from"),
        (["segment", "IN", "--from", "dicomweb://127.0.0.1:1", "-b", BUNDLE, "-o", "OUT"], "give"),
        (["segment", "--from", "dicom://A@127.0.0.1:1", "-b", BUNDLE, "-o", "OUT"], "DICOMweb"),
        (["segment", "IN", "-b", BUNDLE, "-o", "OUT", "--send-to", "pacs"], "no such address"),
        (["receive", "-b", BUNDLE, "-o", "OUT", "--host", "0.0.0.0"], "--allow"),  # noqa: S104
        (["receive", "-b", "nothing", "-o", "OUT"], "no such bundle"),
        (["receive", "-b", BUNDLE, "-o", "OUT", "--max-memory", "lots"], "no amount of memory"),
        (["receive", "-b", BUNDLE, "-o", "OUT", "--shard", "1/2"], "does not take it"),
        (["receive", "-b", BUNDLE, "-o", "OUT", "--from", "dicomweb://a:1"], "--from: "),
        (["receive", "-b", BUNDLE, "-o", "OUT", "folder"], "folder: "),
        (["receive", "-b", BUNDLE, "-o", "OUT", "--send-to", "pacs"], "no such address"),
        (["receive", "-b", BUNDLE, "-o", "OUT", "--ca", "ca.pem"], "--ca needs TLS"),
        (["send", "IN", "--to", "dicom://A@127.0.0.1:1"], "does not answer"),
    ],
)
def test_wrong_words_are_one_line(
    arguments: list[str],
    says: str,
    study: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [{"IN": str(study), "OUT": str(tmp_path / "o")}.get(word, word) for word in arguments]
    errors = refused(words, monkeypatch, capsys)
    assert says in errors
    assert errors.count("\n") == 1


def test_a_study_is_segmented_by_what_is_installed_not_by_what_lies_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nestseg").mkdir()
    for name in ("__init__", "cli"):
        (tmp_path / "nestseg" / f"{name}.py").write_text("print('imported from here')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    work = Work(["nothing"], tmp_path, SegmentWords(), 60, Tls())
    code = _segment(tmp_path, "nothing", tmp_path / "out", work, threading.Event())
    assert code == 2
    said = (tmp_path / "out" / "log.txt").read_text()
    assert "no such bundle" in said
    assert "imported from here" not in said


@pytest.mark.parametrize("wrong", [["--flip"], ["--workers", "many"], ["--runtime", "abacus"]])
def test_an_option_that_segment_refuses_is_refused_by_receive_too(
    wrong: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    words = ["receive", "-b", BUNDLE, "-o", str(out), *wrong]
    assert wrong[0] in refused(words, monkeypatch, capsys)
    assert not out.exists()


def test_a_listener_puts_aside_what_fails_and_stops_when_told(tmp_path: Path, study: Path) -> None:
    pytest.importorskip("pynetdicom", reason="needs the extra `pacs`")
    out, log = tmp_path / "out", tmp_path / "log"
    words = [sys.executable, "-m", "nestseg.cli", "receive", "-b", BUNDLE, "-o", out, "--port", 0]
    words += ["--quiet", 0.5, "--limit", 0]  # no study has time: each fails
    words += ["--one-per-study", "--workers", 2]
    with log.open("wb") as sink:
        listener = subprocess.Popen(
            [*map(str, words)], stdout=sink, stderr=sink, env=os.environ.copy()
        )
    try:
        port = int(_line(log, "listening").split(":")[-1].split()[0])
        private = "1.3.12.2.1107.5.9.1"
        for name in ("thin", "ct"):
            series = [dcmread(path) for path in sorted((study / name).iterdir())]
            series[0].SOPClassUID = private
            push(port, series, classes=[CT, MR, private])
        _line(log, "kept as")
        with association(port) as made:
            made.send_c_store(as_file(Phantom(name="b", study="b", slices=1).datasets()[0]))
            made.abort()
        _line(log, "1 objects, incomplete: its transfer was broken off")
    finally:
        listener.send_signal(signal.SIGTERM)
        assert listener.wait(60) == 0
    said = log.read_text()
    assert "stopped" in said
    assert "MARKER" not in said
    assert "of unknown classes (dropped), complete" in said
    assert len(list((out / ".received" / "failed").rglob("*.dcm"))) in (23, 34)


def _line(log: Path, text: str) -> str:
    for _ in range(480):
        for line in log.read_text().splitlines():
            if text in line:
                return line
        time.sleep(0.25)
    pytest.fail(log.read_text())
