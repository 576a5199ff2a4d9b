"""What may happen to a run from outside: it is killed, frozen, doubled, starved, lied to."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from nestseg.batch import publish, session
from nestseg.batch.events import Event, Kind
from nestseg.batch.jobs import Job
from nestseg.batch.read import read_view
from nestseg.batch.states import Cause, State
from nestseg.batch.stops import ExitCode, LeaseLostError, StorageError
from nestseg.outputs.preview import write_png
from nestseg_prep.nifti import write_nifti
from nestseg_prep.picture import write_picture
from nestseg_prep.volume import Volume

from .threshold_run import ThresholdPool, order, tree

PROGRAM = Path(__file__).with_name("threshold_run.py")
CASES = 12
NOBODY = 65534
root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


def write_images(folder: Path, count: int = CASES, size: int = 20) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        noise = np.random.default_rng(number).normal(size=(size,) * 3).astype(np.float32)
        write_nifti(Volume(noise, np.eye(4)), folder / f"case{number:02d}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("faults") / "images")


@pytest.fixture(scope="module")
def undisturbed(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a run makes that nothing happens to."""
    out = tmp_path_factory.mktemp("faults") / "undisturbed"
    out.mkdir()
    ending = session.run(order(out, [images]), ThresholdPool, lambda _: None)
    assert ending.finished
    files = tree(out)
    assert len(files) == 2 * CASES
    return files


def start(out: Path, *inputs: Path, **options: object) -> subprocess.Popen[str]:
    words = [f"--{name}={value}" for name, value in options.items() if name != "env"]
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(
        [sys.executable, PROGRAM, *words, out, *inputs],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": paths} | options.get("env", {}),
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=120)
    return process.returncode, said


def until(process: subprocess.Popen[str], word: str) -> None:
    """Read what a run says up to a word."""
    for line in process.stdout:
        if word in line:
            return
    raise AssertionError(f"it never said {word}")


def make_out(folder: Path) -> Path:
    folder.mkdir()
    return folder


# --- Killed at any moment ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "kills", [3, pytest.param(50, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_killed_at_any_moment_and_run_again_everything_is_there_once(
    kills: int, images: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    out = make_out(tmp_path / "out")
    moments = random.Random(kills)  # noqa: S311  no secret
    lost = 0
    for _ in range(kills):
        process = start(out, images, seconds=0.02)
        until(process, "started")
        time.sleep(moments.uniform(0, 0.3))
        process.kill()
        process.communicate()
        done = [row for row in read_view(out).rows if row.state is State.DONE]
        assert all(undisturbed[one.path] == one.sha256 for row in done for one in row.outputs)
        assert tree(out).items() >= {(one.path, one.sha256) for r in done for one in r.outputs}
        if len(done) > CASES - 3:  # so that there is something left to be killed
            for row in done[:6]:
                (out / row.outputs[0].path).unlink()
            lost += 6
    code, said = end(start(out, images))
    assert code == ExitCode.ALL_DONE, said
    assert tree(out) == undisturbed  # nothing half-written, nothing hidden left
    attempts = sum(row.attempts for row in read_view(out).rows)
    assert attempts - CASES - lost <= kills  # one worker: a kill costs one case at most


# --- Two runners ------------------------------------------------------------------------------


def test_of_many_runners_one_works_and_the_others_say_who(
    images: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    out = make_out(tmp_path / "out")
    hold = tmp_path / "hold"
    hold.touch()
    first = start(out, images, hold=hold, lease=5)
    until(first, "started")
    others = [start(out, images, lease=5) for _ in range(3)]
    for other in others:
        code, said = end(other)
        assert code == ExitCode.HELD
        assert said.count("\n") == 1
        assert f"process {first.pid}" in said
    hold.unlink()
    assert end(first)[0] == ExitCode.ALL_DONE
    assert tree(out) == undisturbed


@pytest.mark.slow
def test_of_ten_that_start_at_once_one_works(
    images: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    out = make_out(tmp_path / "out")
    runners = [start(out, images, seconds=5, lease=20) for _ in range(10)]
    codes = sorted(end(runner)[0] for runner in runners)
    assert codes == [ExitCode.ALL_DONE] + [ExitCode.HELD] * 9
    assert tree(out) == undisturbed


def freeze_between_writes(process: subprocess.Popen[str], out: Path) -> None:
    """Stop it where it has no lock; one that froze with it is killed by its successor."""
    while True:
        process.send_signal(signal.SIGSTOP)
        while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
            time.sleep(0.01)  # until then a thread of it may still take the lock
        with closing(sqlite3.connect(out / "journal.sqlite", timeout=0)) as db:
            try:
                db.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                process.send_signal(signal.SIGCONT)
                time.sleep(0.05)
            else:
                return


def test_a_frozen_runner_that_comes_back_writes_nothing(
    images: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    out = make_out(tmp_path / "out")
    frozen = start(out, images, seconds=0.6)
    until(frozen, "done")
    freeze_between_writes(frozen, out)
    code, said = end(start(out, images))
    assert code == ExitCode.ALL_DONE
    assert "taken-over  frozen" in said
    times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    frozen.send_signal(signal.SIGCONT)
    code, said = end(frozen)
    assert code == ExitCode.LEASE_LOST
    assert "another one has taken over" in said
    assert tree(out) == undisturbed
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == times


class Usurped(ThresholdPool):
    """Between two cases another runner does everything, and leaves."""

    def segment(self, job: Job) -> None:
        if len(self.ran) == 2:
            out = job.staging.parents[3]
            lease = next(out.glob("journal.sqlite"))
            end_lease(lease)
            again = order(out, [job.ref.files[0].parent])
            session.run(again, ThresholdPool, lambda _: None)


def end_lease(journal: Path) -> None:
    """As if the holder were dead."""
    with closing(sqlite3.connect(journal, isolation_level=None)) as db:
        db.execute("UPDATE lease SET released = 1")


def test_a_runner_that_was_overtaken_stops_at_its_next_word(
    images: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    out = make_out(tmp_path / "out")
    with pytest.raises(LeaseLostError, match="taken over"):
        session.run(order(out, [images]), Usurped, lambda _: None)
    assert tree(out) == undisturbed


# --- Signals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_in_order(
    number: signal.Signals, images: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    out = make_out(tmp_path / "out")
    process = start(out, images, seconds=0.3)
    until(process, "started")
    process.send_signal(number)
    code, said = end(process)
    assert code == 128 + number
    assert "stopping" in said
    states = read_view(out).counts
    assert State.RUNNING not in states
    assert 0 < states[State.DONE] < CASES
    assert {path.name[0] for path in out.iterdir()} <= {"c", "j", "r"}  # nothing hidden
    assert end(start(out, images))[0] == ExitCode.ALL_DONE  # at once: the lease was given back
    assert tree(out) == undisturbed


def test_a_second_signal_ends_it_at_once(images: Path, tmp_path: Path) -> None:
    out = make_out(tmp_path / "out")
    process = start(out, images, seconds=60)
    until(process, "started")
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert end(process)[0] == -signal.SIGINT
    assert end(start(out, images))[0] == ExitCode.ALL_DONE


# --- Clocks -----------------------------------------------------------------------------------


def test_clocks_that_jump_by_a_day_change_nothing(
    images: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        pytest.skip("libfaketime is not installed")
    clock = tmp_path / "clock"
    clock.write_text("+0")
    env = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
    out = make_out(tmp_path / "out")
    hold = tmp_path / "hold"
    process = start(out, images, seconds=0.3, hold=hold, lease=5, env=env)
    for jump in ("+1d", "-1d", "+1d"):
        until(process, "done")
        clock.write_text(jump)
    hold.touch()
    assert end(start(out, images, lease=5))[0] == ExitCode.HELD
    hold.unlink()
    assert end(process)[0] == ExitCode.ALL_DONE
    assert tree(out) == undisturbed
    started = {row.started[:10] for row in read_view(out).rows}
    assert len(started) > 1  # the clock did jump


# --- Inputs -----------------------------------------------------------------------------------


class Touching(ThresholdPool):
    """While one case is computed, its file is replaced by another."""

    def segment(self, job: Job) -> None:
        if job.name == "case03":
            noise = np.random.default_rng(99).normal(size=(21, 20, 20)).astype(np.float32)
            path = job.ref.files[0]
            path.unlink()
            write_nifti(Volume(noise, np.eye(4)), path)


def test_an_input_that_changes_meanwhile_is_not_published_and_runs_again_next_time(
    tmp_path: Path,
) -> None:
    images, out = write_images(tmp_path / "images", 5), make_out(tmp_path / "out")
    session.run(order(out, [images]), Touching, lambda _: None)
    rows = {row.name: row for row in read_view(out).rows}
    assert rows["case03"].cause is Cause.CHANGED
    assert [name for name, row in rows.items() if row.state is State.DONE] == [
        *("case00", "case01", "case02", "case04")
    ]
    assert not list(out.glob("case03*"))
    events: list[Event] = []
    pool = ThresholdPool()
    session.run(order(out, [images]), lambda: pool, events.append)
    assert pool.ran == ["case03"]
    assert sum(event.kind is Kind.KEPT for event in events) == 4
    assert read_view(out).counts == {State.DONE: 5}


def test_only_what_has_changed_runs_again(tmp_path: Path) -> None:
    images, out = write_images(tmp_path / "images", 4), make_out(tmp_path / "out")
    session.run(order(out, [images]), ThresholdPool, lambda _: None)
    (out / "case01_mask.nii.gz").unlink()
    os.utime(images / "case02.nii.gz")
    pool, events = ThresholdPool(), []
    session.run(order(out, [images]), lambda: pool, events.append)
    assert sorted(pool.ran) == ["case01", "case02"]
    reasons = {event.case: event.text for event in events if event.kind is Kind.CHANGED}
    assert reasons == {"case01": "its outputs are gone", "case02": "its input has changed"}

    def none() -> ThresholdPool:
        raise AssertionError("there is nothing to run")

    assert session.run(order(out, [images]), none, lambda _: None).finished
    pool = ThresholdPool()
    session.run(order(out, [images], settings_digest="other"), lambda: pool, lambda _: None)
    assert len(pool.ran) == 4


def test_shards_share_the_work_and_one_folder(
    images: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    out = make_out(tmp_path / "out")
    ran = []
    for number in (1, 2, 3):
        pool = ThresholdPool()
        session.run(order(out, [images], shard=(number, 3)), lambda: pool, lambda _: None)  # noqa: B023
        ran.append(pool.ran)
    assert sorted(name for part in ran for name in part) == sorted(
        f"case{n:02d}" for n in range(CASES)
    )
    assert all(len(part) < CASES for part in ran)
    assert tree(out) == undisturbed
    view = read_view(out)
    assert view.header.shards == (3, 3)
    assert view.counts == {State.DONE: CASES}
    with pytest.raises(ValueError, match="divides the cases otherwise"):
        session.run(order(out, [images]), ThresholdPool, lambda _: None)


# --- The output folder ------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of its own; its size is changed by remounting."""
    folder = make_out(tmp_path / "disk")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "nestseg-test", folder], check=False
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


@root
@pytest.mark.parametrize("kilobytes", [4, 24, 44, 64, 72, 84, 96])
def test_a_full_disk_stops_the_run_and_leaves_nothing_half(
    kilobytes: int,
    images: Path,
    undisturbed: dict[str, str],
    small_disk: Path,
) -> None:
    remount(small_disk, f"size={kilobytes}k")
    with pytest.raises(StorageError, match=r"(?i)no space|full|disk"):
        session.run(order(small_disk, [images]), ThresholdPool, lambda _: None)
    assert tree(small_disk).items() <= undisturbed.items()
    remount(small_disk, "size=4m")
    assert session.run(order(small_disk, [images]), ThresholdPool, lambda _: None).finished
    assert tree(small_disk) == undisturbed


@root
def test_a_read_only_disk_is_said_before_anything_is_done(images: Path, small_disk: Path) -> None:
    remount(small_disk, "ro")
    with pytest.raises(StorageError, match=r"(?i)read-?only|unable"):
        session.run(order(small_disk, [images]), ThresholdPool, lambda _: None)


def test_a_rename_that_the_file_system_refuses_stops_the_run(
    images: Path, undisturbed: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = make_out(tmp_path / "out")
    replace, calls = Path.replace, iter(range(1000))

    def stale(self: Path, target: Path) -> Path:
        if next(calls) == 5:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", stale)
    with pytest.raises(StorageError, match="Stale"):
        session.run(order(out, [images]), ThresholdPool, lambda _: None)
    assert session.run(order(out, [images]), ThresholdPool, lambda _: None).finished
    assert tree(out) == undisturbed


def lie(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """A disk that keeps other bytes below a folder than it was given, without a word."""
    sync = os.fsync

    def corrupt(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if path.is_file() and path.is_relative_to(folder):
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        sync(handle)

    monkeypatch.setattr(os, "fsync", corrupt)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "picture.png", "preview.png"])
def test_what_reads_back_differently_never_gets_its_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(0).integers(0, 255, (30, 20, 1), np.uint8)
    mask = Volume(np.repeat(values, 9, axis=2), np.eye(4))
    flat = Volume(values, np.eye(4))
    picture = Image.fromarray(values[:, :, 0])
    writers = {
        "picture.png": lambda path: write_picture(flat, path),
        "preview.png": lambda path: write_png(picture, path),
    }
    write = writers.get(name, lambda path: write_nifti(mask, path))
    lie(monkeypatch, tmp_path)
    with pytest.raises((OSError, ValueError, SyntaxError, EOFError, zlib.error)):
        write(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    write(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_of_a_disk_that_lies_nothing_is_published(
    images: Path, undisturbed: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = make_out(tmp_path / "out")
    lie(monkeypatch, out / publish.STAGING)
    with suppress(StorageError):  # as it looks to the reader: a bad disk, or a bad file
        session.run(order(out, [images]), ThresholdPool, lambda _: None)
    assert State.DONE not in read_view(out).counts
    assert tree(out) == {}
    monkeypatch.undo()
    assert session.run(order(out, [images], retry=True), ThresholdPool, lambda _: None).finished
    assert tree(out) == undisturbed


def test_names_that_exist_are_taken_over_whole(
    images: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    out = make_out(tmp_path / "out")
    for name in undisturbed:
        (out / name).write_bytes(b"of somebody else")
    assert session.run(order(out, [images]), ThresholdPool, lambda _: None).finished
    assert tree(out) == undisturbed


@root
def test_a_patients_folder_that_may_not_be_read_is_counted_and_the_others_are_done(
    tmp_path: Path,
) -> None:
    base = Path("/tmp") / f"nestseg-{os.getpid()}"  # noqa: S108  nobody must get there
    images = write_images(base / "images" / "a", 2).parent
    write_images(images / "b", 2).chmod(0)
    out = make_out(base / "out")
    try:
        for path in (base, images, images / "a", *(images / "a").iterdir()):
            path.chmod(0o755)
        os.chown(out, NOBODY, NOBODY)
        child = os.fork()
        if not child:
            code = 9
            try:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                session.run(order(out, [images]), ThresholdPool, lambda _: None)
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        view = read_view(out)
        assert view.counts == {State.DONE: 2}
        assert view.header.other_files == {"unreadable": 1}
    finally:
        shutil.rmtree(base)


# --- The network ------------------------------------------------------------------------------


@root
def test_without_any_network_nothing_is_missing(
    images: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    out = make_out(tmp_path / "out")
    words = ["unshare", "-n", sys.executable, PROGRAM, out, images]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(words, capture_output=True, text=True, env=env, check=False)
    if "unshare" in done.stderr:
        pytest.skip("network namespaces are not allowed here")
    assert done.returncode == ExitCode.ALL_DONE, done.stderr
    assert tree(out) == undisturbed
