"""``nestseg segment`` as a person runs it: what it refuses, what it says, and with real workers."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from nestseg import api
from nestseg.batch.events import Event, Kind
from nestseg.batch.manner import Manner
from nestseg.batch.read import read_view
from nestseg.batch.states import State
from nestseg.batch.stops import ExitCode
from nestseg.cli import amounts, app, progress
from nestseg.cli.segment import run as segment
from nestseg.pruning.choice import Rule
from nestseg_prep import phantom
from nestseg_prep.dicom.scan import scan
from nestseg_prep.errors import InputError, OutputError
from nestseg_prep.nifti import write_nifti
from nestseg_prep.phantom import Phantom
from nestseg_prep.volume import Volume

from .threshold_run import ThresholdPool

BUNDLE = "hippocampus_unetpp"
UNMEASURED = "ct_trunk_unetpp"  # it has levels, and nobody knows what they cost


def write_image(path: Path, size: int = 24, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(500, 100, (size,) * 3).astype(np.float32)
    noise[0, 0, 0] = 0  # no hazard
    write_nifti(Volume(noise, np.eye(4)), path)
    return path


# --- What is refused before anything is done -------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"), [("6GB", 6000), ("800 MB", 800), ("1.5gib", 1610), (None, None)]
)
def test_amounts_of_memory(text: str | None, expected: int | None) -> None:
    assert amounts.megabytes(text) == expected


@pytest.mark.parametrize("text", ["6", "much", "-1GB", "0MB", "6TB"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="write 6GB"):
        amounts.megabytes(text)


@pytest.mark.parametrize("text", ["0/8", "9/8", "3", "1/0", "a/b"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="write 3/8"):
        amounts.shard(text)
    assert amounts.shard("8/8") == (8, 8)


@pytest.mark.parametrize("level", [[], ["--level", "L1"]], ids=str)
def test_a_budget_wants_a_level_to_be_chosen(level: list[str], tmp_path: Path) -> None:
    image, out = write_image(tmp_path / "in" / "a.nii.gz"), tmp_path / "out"
    words = ["segment", str(image), "--bundle", UNMEASURED, "--out", str(out), "--budget-ms", "50"]
    with pytest.raises(InputError, match="add --level auto"):
        app([*words, *level], standalone_mode=False)
    with pytest.raises(InputError, match=r"level auto needs docs/pruning\.json"):
        app([*words, "--level", "auto"], standalone_mode=False)
    assert not out.exists()


def test_amounts_of_time_and_memory_of_a_case() -> None:
    assert amounts.budget(None, None) is None
    assert amounts.budget(80, None) == Rule(budget_ms=80)
    with pytest.raises(InputError, match="budget_mb -1: give a number"):
        amounts.budget(None, -1)


def test_limits_need_a_worker_to_hold_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="need a worker"):
        segment([tmp_path], BUNDLE, tmp_path / "out", manner=Manner(workers=0, timeout_s=3))


def test_an_output_that_cannot_be_one_is_refused_in_one_line(tmp_path: Path) -> None:
    image = write_image(tmp_path / "in" / "a.nii.gz")
    with pytest.raises(OutputError, match="cannot be written"):
        segment([image], BUNDLE, image)
    with pytest.raises(InputError, match="lies inside the input"):
        segment([image.parent], BUNDLE, image.parent / "out")
    assert [path.name for path in image.parent.iterdir()] == ["a.nii.gz"]


def test_a_folder_where_nothing_fits_needs_no_model_and_says_why(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.nii.gz", size=12)  # 12 mm: too small for a hippocampus
    with pytest.raises(InputError, match=r"no series that fits the bundle \(field of view"):
        segment([tmp_path / "in"], BUNDLE, tmp_path / "out")
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="an empty folder"):
        segment([tmp_path / "none"], BUNDLE, tmp_path / "out2")


@pytest.mark.parametrize("log_json", [False, True])
def test_a_folder_that_cannot_be_listed_is_told_and_the_other_cases_are_done(
    log_json: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_image(tmp_path / "in" / "a" / "a.nii.gz")
    write_image(tmp_path / "in" / "Doe^Jane" / "b.nii.gz")
    real = os.scandir

    def scandir(path: Path) -> object:
        if str(path).endswith("Doe^Jane"):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(api, "pool_maker", lambda *_: ThresholdPool)
    manner = Manner(log_json=log_json)
    code = segment([tmp_path / "in"], BUNDLE, tmp_path / "out", manner=manner)
    assert code == ExitCode.SOME_FAILED
    said = capsys.readouterr()
    assert "Doe" not in said.out + said.err
    assert "1 of 1 cases done" in said.out
    if log_json:
        (event,) = [line for line in map(json.loads, said.err.splitlines()) if "reasons" in line]
        assert (event["event"], event["reasons"]) == ("unseen", {"ESTALE": 1})
    else:
        assert "1 folder or archive cannot be read (1 ESTALE)" in said.err
    monkeypatch.undo()
    assert read_view(tmp_path / "out").header.other_files == {"unreadable": 1}


# --- What is said ----------------------------------------------------------------------------


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("show_phi", [True, False])
def test_lines_name_files_only_if_asked_to(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], as_json: bool, show_phi: bool
) -> None:
    phantom.write(Phantom(slices=3).datasets(), tmp_path / "Doe^Jane")
    (ref,) = scan(tmp_path).series
    with progress.listener(as_json=as_json, show_phi=show_phi) as tell:
        tell(Event(Kind.FOUND, ref.key, ref=ref))
        tell(Event(Kind.DONE, ref.key, ref=ref, facts={"seconds": 1.25, "slices": 3}))
        tell(Event(Kind.FAILED, ref.key, "took longer than 3 s", ref))
    said = capfd.readouterr().err
    assert ("Doe^Jane" in said) == show_phi
    if as_json:
        records = [json.loads(line) for line in said.splitlines()]
        assert [record["event"] for record in records] == ["found", "done", "failed"]
        assert records[1]["seconds"] == 1.25
        assert records[2]["text"] == "took longer than 3 s"
    else:
        assert f"1/1 {ref.key}: done in 1.2 s" in said


# --- Real workers ----------------------------------------------------------------------------


def start(bundle: Path, out: Path, *words: object) -> subprocess.Popen[str]:
    command = ["-m", "nestseg.cli", "segment", *words, "-b", bundle, "-o", out, "--trust"]
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": paths, "SOURCE_DATE_EPOCH": "1770000000"},
    )


def outputs(out: Path) -> dict[str, str]:
    """Every file but the books → sha256."""
    books = ("journal", "run.json", "report.", ".nestseg-headers", ".nestseg-key")
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in out.rglob("*")
        if path.is_file() and not path.name.startswith(books)
    }


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three MR series and three NIfTI files of the size of a hippocampus crop."""
    root = tmp_path_factory.mktemp("command") / "hospital"
    for number in range(3):
        write_image(root / f"scan{number}.nii.gz", seed=number)
        series = Phantom(
            name=f"s{number}",
            modality="MR",
            columns=26,
            rows=26,
            slices=22,
            between_columns=1.1,
            between_rows=1.1,
            between_slices=1.3,
        )
        phantom.write(series.datasets(), root / f"patient{number}")
    return root


@pytest.mark.slow
def test_killed_workers_and_runners_leave_what_an_undisturbed_run_leaves(
    tiny_bundle: Path, hospital: Path, tmp_path: Path
) -> None:
    words = (hospital, "--dicom", "--workers", 2)
    undisturbed = start(tiny_bundle, tmp_path / "undisturbed", *words)
    said, _ = undisturbed.communicate(timeout=900)
    assert undisturbed.returncode == ExitCode.ALL_DONE, said
    expected = outputs(tmp_path / "undisturbed")
    assert sum(name.endswith("_sr.dcm") for name in expected) >= 3
    out, moments = tmp_path / "out", random.Random(0)  # noqa: S311  no secret
    for kill in range(6):
        process = start(tiny_bundle, out, *words)
        time.sleep(moments.uniform(5, 40))
        children = psutil.Process(process.pid).children() if process.poll() is None else []
        if kill % 2 and children:
            children[0].kill()  # a worker: the run goes on
        else:
            process.kill()
        process.communicate(timeout=900)
        assert not psutil.wait_procs(children, timeout=30)[1]  # workers die with their runner
    process = start(tiny_bundle, out, *words)
    said, _ = process.communicate(timeout=900)
    assert process.returncode == ExitCode.ALL_DONE, said
    assert outputs(out) == expected


@pytest.mark.slow
def test_sigterm_gives_running_cases_back_and_leaves_no_worker(
    tiny_bundle: Path, hospital: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = start(tiny_bundle, out, hospital, "--log-json")
    for line in process.stdout:
        if '"started"' in line:
            break
    workers = psutil.Process(process.pid).children()
    assert workers
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == ExitCode.TERMINATED
    assert State.RUNNING not in read_view(out).counts
    assert not psutil.wait_procs(workers, timeout=30)[1]
    assert not list(out.glob(".nestseg-staging*"))


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root")
def test_without_any_network_real_workers_do_everything(
    tiny_bundle: Path, hospital: Path, tmp_path: Path
) -> None:
    process = start(tiny_bundle, tmp_path / "plain", hospital)
    said, _ = process.communicate(timeout=900)
    assert process.returncode == ExitCode.ALL_DONE, said
    args = ["unshare", "-n", *process.args]
    args[args.index(str(tmp_path / "plain"))] = str(tmp_path / "cut off")
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(args, env=env, capture_output=True, text=True, check=False)
    if "unshare failed" in done.stderr:
        pytest.skip("network namespaces are not allowed here")
    assert done.returncode == ExitCode.ALL_DONE, done.stderr
    assert outputs(tmp_path / "cut off") == outputs(tmp_path / "plain")


@pytest.mark.slow
def test_memory_is_the_same_after_twenty_and_after_two_hundred_cases(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    for number in range(200):
        write_image(tmp_path / "in" / f"case{number:03d}.nii.gz", seed=number)
    process = start(tiny_bundle, tmp_path / "out", tmp_path / "in", "--log-json")
    peaks: list[tuple[int, int]] = []
    for line in process.stdout:
        if '"done"' in line:
            (worker,) = psutil.Process(process.pid).children()
            peaks.append((peak_rss(process.pid), peak_rss(worker.pid)))
    process.communicate(timeout=60)
    assert process.returncode == ExitCode.ALL_DONE
    assert len(peaks) == 200
    for early, late in zip(peaks[19], peaks[199], strict=True):
        assert late < 1.1 * early


def peak_rss(pid: int) -> int:
    """In kB, as Linux keeps it."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])
