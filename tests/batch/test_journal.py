"""The journal, its lease and the way of files to their names, without any network."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nestseg.batch import holders, process, publish, schema
from nestseg.batch import lease as leases
from nestseg.batch.entries import Entry, Publication
from nestseg.batch.holders import Timing
from nestseg.batch.journal import Journal
from nestseg.batch.lease import Lease
from nestseg.batch.read import read_view
from nestseg.batch.states import Cause, Facts, Flag, Output, State
from nestseg.batch.stops import HeldError, LeaseLostError, StorageError
from nestseg_prep.errors import InputError

QUICK = Timing(beat=0.05, lease=0.6)
SERIES = {
    "kind": "nifti",
    "modality": None,
    "shape": [4, 5, 6],
    "spacing": [1, 1, 2],
    "findings": [],
}
FACTS = Facts({"liver": 1.5}, 0.25, (Flag("touches-border", "It touches."),), {"infer": 2.0}, 900.0)


def path_in(folder: Path) -> Path:
    return folder / schema.journal_name()


def lease_row(folder: Path) -> holders.Row:
    with closing(schema.connect(path_in(folder), read_only=True)) as db:
        row = holders.read(db)
    assert row is not None
    return row


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Journal, Lease]]:
    lease = Lease(path_in(tmp_path), QUICK)
    journal = Journal(path_in(tmp_path), lease.token)
    yield journal, lease
    journal.close()
    lease.release()


def stage(folder: Path, *names: str) -> tuple[Output, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    outputs = []
    for name in names:
        content = f"content of {name}".encode()
        (folder / name).write_bytes(content)
        outputs.append(Output("mask", name, hashlib.sha256(content).hexdigest(), len(content)))
    return tuple(outputs)


def test_a_case_goes_its_way_and_readers_see_it(
    held: tuple[Journal, Lease], tmp_path: Path
) -> None:
    journal, _ = held
    journal.note(nestseg="1.0", labels={1: "liver"}, scanned=False)
    journal.enter(Entry("k1", "scan", SERIES, State.FOUND, "", "in", "set"))
    journal.enter(Entry("k2", "k2", SERIES, State.REFUSED, "The slices have gaps."))
    assert journal.start("k1") == 1
    assert [row.state for row in read_view(tmp_path).rows] == [State.RUNNING, State.REFUSED]
    one = Publication("k1", "scan.1", (Output("mask", "scan_seg.nii.gz", "ab", 3),), FACTS, "h:1")
    journal.publish(one)
    assert journal.publishing() == [one]
    journal.done(one)
    view = read_view(tmp_path)
    done, refused = view.rows
    assert (done.state, done.outputs, done.facts) == (State.DONE, one.outputs, FACTS)
    assert (done.shape, done.attempts, done.worker) == ((4, 5, 6), 1, "h:1")
    assert refused.reason == "The slices have gaps."
    assert view.header.labels == {1: "liver"}
    assert view.counts == {State.DONE: 1, State.REFUSED: 1}
    assert view.to_json()["rows"][0]["facts"]["flags"][0]["code"] == "touches-border"


def test_failures_count_until_something_changes(held: tuple[Journal, Lease]) -> None:
    journal, _ = held
    entry = Entry("k", "k", SERIES, State.FOUND, "", "in", "set")
    journal.enter(entry)
    for number in (1, 2):
        assert journal.start("k") == number
        assert journal.fail("k", State.FOUND, Cause.KILLED, "it died", "h:1") == number
    journal.start("k")
    journal.release("k")  # interrupted: that was no fault of its own
    stored = journal.stored("k")
    assert stored is not None
    assert (stored.state, stored.failures) == (State.FOUND, 2)
    journal.enter(entry._replace(input_digest="other"))
    assert journal.fail("k", State.QUARANTINED, Cause.ERROR, "no", "h:1") == 1


def test_an_error_in_a_transaction_changes_nothing(
    held: tuple[Journal, Lease], tmp_path: Path
) -> None:
    journal, _ = held
    with pytest.raises(TypeError):
        journal.note(nestseg="1", labels=object())
    with pytest.raises(sqlite3.IntegrityError), journal._change() as db:
        db.executemany("INSERT INTO run VALUES (?, ?)", [("nestseg", "1"), ("python", None)])
    assert read_view(tmp_path).header.nestseg == ""
    journal.note(nestseg='2"')  # the next one goes through
    assert read_view(tmp_path).header.nestseg == '2"'


def test_a_journal_that_cannot_be_written_says_so(held: tuple[Journal, Lease]) -> None:
    journal, _ = held
    (pages,) = journal._connection.execute("PRAGMA page_count").fetchone()
    journal._connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own full disk
    with pytest.raises(StorageError, match="full"):
        journal.note(**{f"name {number}": "x" * 500 for number in range(100)})
    journal._connection.execute("PRAGMA max_page_count = 100000")
    journal.note(nestseg="goes on")


def test_what_is_no_journal_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no journal"):
        read_view(tmp_path)
    path_in(tmp_path).touch()  # its runner is just beginning
    assert read_view(tmp_path).rows == ()
    path_in(tmp_path).write_bytes(b"no database at all, but long enough for a header" * 40)
    with pytest.raises(InputError, match="damaged"):
        read_view(tmp_path)


def test_journals_of_shards_are_read_as_one(tmp_path: Path) -> None:
    for number in (1, 2):
        path = tmp_path / schema.journal_name((number, 2))
        lease = Lease(path, QUICK)
        journal = Journal(path, lease.token)
        journal.note(nestseg="1", scanned=number == 1, shard_count=2, other_files={"archive": 3})
        journal.enter(Entry(f"k{number}", f"n{number}", SERIES, State.FOUND))
        journal.close()
        lease.release()
    view = read_view(tmp_path)
    assert [row.key for row in view.rows] == ["k1", "k2"]
    assert view.header.shards == (2, 2)
    assert view.header.other_files == {"archive": 3}
    assert not view.header.scanned


# --- The lease --------------------------------------------------------------------------------


def test_tokens_grow_and_a_runner_that_left_is_not_waited_for(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        lease = Lease(path_in(tmp_path), Timing(lease=1000))
        assert (lease.token, lease.taken_from) == (number, "")
        held = lease_row(tmp_path)
        assert (held.holder.pid, held.released) == (os.getpid(), False)
        lease.release()
    assert lease_row(tmp_path).released


def test_a_second_runner_is_refused_while_the_first_is_alive(
    held: tuple[Journal, Lease], tmp_path: Path
) -> None:
    journal, _ = held
    with pytest.raises(HeldError, match=f"process {os.getpid()}"):
        Lease(path_in(tmp_path), QUICK)
    journal.note(nestseg="still mine")


def _hold(path: Path, ready: object) -> None:
    lease = Lease(path, QUICK)
    ready.put(lease.token)
    time.sleep(60)


def _holder(path: Path) -> multiprocessing.Process:
    context = multiprocessing.get_context("spawn")
    ready = context.Queue()
    child = context.Process(target=_hold, args=(path, ready))
    child.start()
    ready.get(timeout=60)
    return child


def test_a_dead_runner_is_followed_at_once_and_a_frozen_one_after_the_lease(
    tmp_path: Path,
) -> None:
    child = _holder(path_in(tmp_path))
    os.kill(child.pid, signal.SIGSTOP)
    lease = Lease(path_in(tmp_path), QUICK)
    assert (lease.token, lease.taken_from) == (2, "frozen")
    lease.release()
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    child = _holder(path_in(tmp_path))
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    lease = Lease(path_in(tmp_path), Timing(lease=1000))
    assert (lease.token, lease.taken_from) == (4, "dead")
    lease.release()


def _hold_locked(path: Path, ready: object) -> None:
    lease = Lease(path, QUICK)
    with Journal(path, lease.token)._change():
        ready.put(lease.token)
        time.sleep(60)


def test_a_runner_that_froze_while_it_was_writing_is_ended(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Queue()
    child = context.Process(target=_hold_locked, args=(path_in(tmp_path), ready))
    child.start()
    ready.get(timeout=60)
    os.kill(child.pid, signal.SIGSTOP)
    lease = Lease(path_in(tmp_path), QUICK)
    assert (lease.token, lease.taken_from) == (2, "frozen")
    child.join(10)
    assert child.exitcode == -signal.SIGKILL
    Journal(path_in(tmp_path), lease.token).note(nestseg="goes on")
    lease.release()


def test_a_runner_that_comes_back_changes_nothing(tmp_path: Path) -> None:
    first = Lease(path_in(tmp_path), QUICK)
    journal = Journal(path_in(tmp_path), first.token)
    journal.enter(Entry("k", "k", SERIES, State.FOUND))
    first._stop.set()  # it stands still
    first._thread.join()
    second = Lease(path_in(tmp_path), QUICK)
    assert (second.token, second.taken_from) == (first.token + 1, "frozen")
    for write in (
        lambda: journal.start("k"),
        journal.release,
        lambda: journal.note(nestseg="old"),
        lambda: journal.enter(Entry("k2", "k2", SERIES, State.FOUND)),
    ):
        with pytest.raises(LeaseLostError):
            write()
    first.release()  # does not end the lease of the other
    with pytest.raises(HeldError):
        Lease(path_in(tmp_path), QUICK)
    (row,) = read_view(tmp_path).rows
    assert (row.state, row.attempts) == (State.FOUND, 0)
    journal.close()
    second.release()


def test_a_runner_notices_by_itself_that_it_lost_its_lease(
    held: tuple[Journal, Lease], tmp_path: Path
) -> None:
    _, lease = held
    db = sqlite3.connect(path_in(tmp_path), isolation_level=None)
    db.execute("UPDATE lease SET token = token + 1")
    db.close()
    assert lease.lost.wait(10)


def _try(path: Path, begin: object, answers: object) -> None:
    begin.wait()
    try:
        lease = Lease(path, QUICK)
    except HeldError:
        answers.put(0)
    else:
        answers.put(lease.token)
        time.sleep(2)
        lease.release()


def test_of_ten_runners_one_gets_the_lease(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    begin, answers = context.Event(), context.Queue()
    children = [
        context.Process(target=_try, args=(path_in(tmp_path), begin, answers)) for _ in range(10)
    ]
    for child in children:
        child.start()
    begin.set()
    got = sorted(answers.get(timeout=60) for _ in children)
    for child in children:
        child.join()
    assert got == [0] * 9 + [1]


def test_no_wall_clock_is_ever_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that jumps by a day with each look changes nothing."""
    looks = iter(range(10**6))
    monkeypatch.setattr(time, "time", lambda: (-1) ** next(looks) * 86400.0)
    monkeypatch.setattr(time, "time_ns", lambda: (-1) ** next(looks) * 86400 * 10**9)
    lease = Lease(path_in(tmp_path), QUICK)
    with pytest.raises(HeldError):
        Lease(path_in(tmp_path), QUICK)
    lease.release()
    for module in (holders, leases, process, publish):
        source = Path(module.__file__).read_text()
        assert "time.time" not in source
        assert "datetime" not in source


def test_a_number_that_another_process_has_now_is_no_sign_of_life() -> None:
    own = process.this_process()
    assert not own.is_gone(own)
    other = process.Process(own.host, own.boot, own.pid, "1")
    assert other.is_gone(own)
    assert process.Process(own.host, "a boot ago", own.pid, own.start).is_gone(own)
    # Of another machine nothing is known but its beats.
    assert not process.Process("elsewhere", "x", own.pid, "1").is_gone(own)


# --- File systems without locks ---------------------------------------------------------------


@pytest.fixture
def lockless(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    schema.supports_locks.cache_clear()
    monkeypatch.setattr(schema.fcntl, "lockf", refuse)
    yield
    monkeypatch.undo()
    schema.supports_locks.cache_clear()


@pytest.mark.usefixtures("lockless")
def test_without_locks_dot_files_take_their_place(tmp_path: Path) -> None:
    lease = Lease(path_in(tmp_path), QUICK)
    journal = Journal(path_in(tmp_path), lease.token)
    with journal._change() as db:
        assert path_in(tmp_path).with_name("journal.sqlite.lock").exists()
        db.execute("SELECT 1")
    with pytest.raises(HeldError):
        Lease(path_in(tmp_path), QUICK)
    journal.note(nestseg="works")
    assert read_view(tmp_path).header.nestseg == "works"
    journal.close()
    lease.release()


@pytest.mark.usefixtures("lockless")
def test_the_dot_file_of_a_killed_runner_is_in_nobodys_way(tmp_path: Path) -> None:
    Lease(path_in(tmp_path), QUICK).release()
    path_in(tmp_path).with_name("journal.sqlite.lock").mkdir()
    lease = Lease(path_in(tmp_path), QUICK)
    assert lease.token == 2
    lease.release()


# --- Files get their names --------------------------------------------------------------------


def test_files_get_their_names_once_and_a_second_time_changes_nothing(tmp_path: Path) -> None:
    outputs = stage(tmp_path / "staging", "a_seg.nii.gz", "a_preview.png")
    (tmp_path / "a_seg.nii.gz").write_text("of an earlier run")
    for _ in range(2):
        publish.publish(tmp_path, [tmp_path / "staging"], outputs)
        assert (tmp_path / "a_seg.nii.gz").read_text() == "content of a_seg.nii.gz"
        assert publish.are_there(tmp_path, outputs)
    assert list((tmp_path / "staging").iterdir()) == []
    publish.remove(tmp_path, outputs, but=outputs[:1])
    assert {path.name for path in tmp_path.iterdir()} == {"staging", "a_seg.nii.gz"}


def test_a_fenced_runner_finds_nothing_to_rename(tmp_path: Path) -> None:
    root = publish.staging_root(tmp_path, None)
    staging = publish.make_staging(root, 1)
    outputs = stage(staging / "a.1", "a_seg.nii.gz")
    moved = publish.fence(root, 2)
    with pytest.raises(FileNotFoundError):
        publish.publish(tmp_path, [staging / "a.1"], outputs)
    with pytest.raises(FileNotFoundError):
        (staging / "b.1").mkdir()
    assert not (tmp_path / "a_seg.nii.gz").exists()
    publish.publish(tmp_path, [folder / "a.1" for folder in moved], outputs, doubtful=True)
    assert (tmp_path / "a_seg.nii.gz").exists()
    publish.leave(moved[0])
    assert [path.name for path in tmp_path.iterdir()] == ["a_seg.nii.gz"]


def test_a_file_that_was_damaged_in_staging_never_gets_its_name(tmp_path: Path) -> None:
    outputs = stage(tmp_path / "staging", "a_seg.nii.gz")
    (tmp_path / "staging" / "a_seg.nii.gz").write_bytes(b"content of a_seg.nii.")
    with pytest.raises(FileNotFoundError):
        publish.publish(tmp_path, [tmp_path / "staging"], outputs, doubtful=True)
    assert not (tmp_path / "a_seg.nii.gz").exists()


@pytest.mark.parametrize("path", ["../a", "/tmp/a", "b/../../a", ".nestseg-staging/x"])  # noqa: S108
def test_no_output_leaves_the_folder(tmp_path: Path, path: str) -> None:
    with pytest.raises(OSError, match="outside"):
        publish.publish(tmp_path, [tmp_path], [Output("mask", path, "", 0)])
