"""A journal that is damaged or lost, results that were changed, and what is done about it."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import stat
import sys
import warnings
from contextlib import closing
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from nestseg.batch import publish, rebuilding, record, schema, session
from nestseg.batch.discovery import series_facts
from nestseg.batch.entries import Publication
from nestseg.batch.events import Event, Kind
from nestseg.batch.journal import Journal
from nestseg.batch.lease import Lease
from nestseg.batch.read import read_view
from nestseg.batch.states import Facts, Flag, Output, State
from nestseg.batch.view import CaseRow
from nestseg.bundle.manifest import digest
from nestseg.cli import main
from nestseg_prep.dicom.scan import scan
from nestseg_prep.errors import InputError
from nestseg_prep.nifti import write_nifti
from nestseg_prep.volume import Volume

from .threshold_run import ThresholdPool, order, tree

CASES = 4
PAGE = 4096


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``images`` and ``out`` of a run that came to its end."""
    base = tmp_path_factory.mktemp("damage")
    (base / "images").mkdir()
    for number in range(CASES):
        noise = np.random.default_rng(number).normal(size=(8, 9, 10)).astype(np.float32)
        write_nifti(Volume(noise, np.eye(4)), base / "images" / f"case{number}.nii.gz")
    (base / "out").mkdir()
    session.run(order(base / "out", [base / "images"]), ThresholdPool, lambda _: None)
    return base


@pytest.fixture
def images(finished: Path) -> Path:
    return finished / "images"


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished / "out", tmp_path / "out"))


def run(out: Path, images: Path, **changes: object) -> tuple[list[str], list[Event]]:
    """Run again; which cases were segmented, and what was told."""
    pool, events = ThresholdPool(), []
    session.run(order(out, [images], **changes), lambda: pool, events.append)
    return sorted(pool.ran), events


def nestseg(
    words: list[object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["nestseg", *map(str, words)])
    with warnings.catch_warnings(), pytest.raises(SystemExit) as left:
        main()
    said = capsys.readouterr()
    return int(left.value.code or 0), said.out, said.err


# --- A journal that is damaged ----------------------------------------------------------------


def random_bytes(content: bytes) -> bytes:
    return random.Random(0).randbytes(len(content))  # noqa: S311  no secret


def cut_in_a_page(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3 + 100]


def cut_between_pages(content: bytes) -> bytes:
    return content[: len(content) // PAGE // 2 * PAGE]


def zeroed(number: int, content: bytes) -> bytes:
    return content[: number * PAGE] + bytes(PAGE) + content[(number + 1) * PAGE :]


def of_another_program(content: bytes) -> bytes:
    return b"this is a text, and long enough to be looked at as a database" * 40


DAMAGE = {
    "random-bytes": random_bytes,
    "cut-in-a-page": cut_in_a_page,
    "cut-between-pages": cut_between_pages,
    "first-page-zeroed": lambda content: zeroed(0, content),
    "third-page-zeroed": lambda content: zeroed(2, content),
    "of-another-program": of_another_program,
}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("command", ["segment", "report", "serve", "verify"])
def test_a_damaged_journal_is_said_in_one_line(
    kind: str,
    command: str,
    out: Path,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = out / schema.journal_name()
    path.write_bytes(DAMAGE[kind](path.read_bytes()))
    before = tree(out)
    words = [command, out]
    if command == "segment":
        words = [command, images, "-b", "hippocampus_unetpp", "-o", out]
    code, _, errors = nestseg(words, monkeypatch, capsys)
    assert code == 2
    assert errors.count("\n") == 1
    assert errors.startswith(f"nestseg: {path}: damaged")
    assert "move it away and run the same `nestseg segment` again" in errors
    assert tree(out).items() >= before.items()


def test_every_page_of_a_journal_counts(out: Path, images: Path) -> None:
    path = out / schema.journal_name()
    content = path.read_bytes()
    for number in range(len(content) // PAGE):
        path.write_bytes(zeroed(number, content))
        with pytest.raises(InputError, match="damaged"):
            read_view(out)
        with pytest.raises(InputError, match="damaged"):
            Lease(path)


@pytest.mark.parametrize(
    ("table", "column", "text"),
    [
        ("cases", "outputs", '[{"role"'),
        ("cases", "outputs", '[{"rule": 1}]'),
        ("cases", "facts", "[]"),
        ("cases", "series", "{}"),
        ("cases", "state", "dune"),
        ("cases", "publishing", "{}"),
        ("run", "value", "{"),
        ("lease", "holder", "[1"),
        ("cases", "name", b"\xff\xfe"),
    ],
)
def test_rows_that_nobody_wrote_are_damage_too(
    table: str, column: str, text: str | bytes, out: Path, images: Path
) -> None:
    with closing(sqlite3.connect(out / schema.journal_name(), isolation_level=None)) as db:
        db.execute(f"UPDATE {table} SET {column} = cast(? AS TEXT)", (text,))  # noqa: S608
        if table == "lease":
            db.execute("UPDATE lease SET released = 0")
    with pytest.raises(InputError, match="damaged"):
        run(out, images)


def test_a_rollback_file_of_random_bytes_changes_nothing(out: Path, images: Path) -> None:
    (out / "journal.sqlite-journal").write_bytes(random.Random(0).randbytes(3 * PAGE))  # noqa: S311
    assert run(out, images)[0] == []
    assert read_view(out).counts == {State.DONE: CASES}


def test_a_journal_that_is_locked_is_not_called_damaged(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = out / schema.journal_name()
    monkeypatch.setattr(schema, "connect", partial(schema.connect, busy_s=0.1))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        with pytest.raises(InputError, match="locked"):
            read_view(out)


# --- A journal that is lost -------------------------------------------------------------------


def lose_journal(out: Path) -> None:
    for path in schema.journals_in(out):
        path.unlink()


def test_a_lost_journal_is_rebuilt_from_results_that_are_proved(out: Path, images: Path) -> None:
    before = read_view(out)
    lose_journal(out)
    ran, events = run(out, images)
    assert ran == []
    assert [event.text for event in events if event.kind is Kind.REBUILT] == [str(CASES)]
    after = read_view(out)
    assert [vars(row) for row in after.rows] == [
        vars(row) | {"worker": "", "seen": True} for row in before.rows
    ]
    assert (after.header.labels, after.header.bundle) == (
        before.header.labels,
        before.header.bundle,
    )
    assert run(out, images)[0] == []


def test_everything_that_is_known_of_a_case_is_rebuilt(tmp_path: Path, images: Path) -> None:
    flag = Flag("empty", "nothing is there")
    facts = Facts(
        {"a": 1.5},
        0.25,
        (flag,),
        {"read": 0.5},
        12.5,
        ("a note",),
        "torch fp32",
        {"a": 2.5},
        {"a": 7},
        {"a": {"dice": 1.0, "volume_ratio": 0.98}},
    )
    assert all(getattr(facts, one.name) for one in fields(facts))
    found = series_facts(scan(images).series[0]) | {"part": "echo 2"}
    row = CaseRow(
        name="a",
        key="k",
        state=State.DONE,
        reason="",
        cause=None,
        attempts=2,
        outputs=(),
        facts=facts,
        started="s",
        finished="f",
        input_digest="i",
        settings_digest="d",
        **found,
    )
    written = json.loads(json.dumps(record._case(row)))
    restored = rebuilding._restored(tmp_path, written)
    assert restored.facts == facts
    del written["contours"]  # as a version wrote it that knew no contours
    assert rebuilding._restored(tmp_path, written).facts == replace(facts, contours={})
    assert json.dumps(restored.entry.series, sort_keys=True) == json.dumps(found, sort_keys=True)
    assert (restored.entry.input_digest, restored.entry.settings_digest) == ("i", "d")


def test_only_what_is_as_it_was_is_believed(out: Path, images: Path, tmp_path: Path) -> None:
    lose_journal(out)
    moved = Path(shutil.copytree(images, tmp_path / "images"))
    mask = out / "case0_mask.nii.gz"
    content = bytearray(mask.read_bytes())
    content[50] ^= 1  # of the same size
    mask.write_bytes(content)
    (out / "case1_probabilities.nii.gz").unlink()
    os.utime(moved / "case2.nii.gz")
    good = tree(out)
    ran, _ = run(out, moved)
    assert ran == ["case0", "case1", "case2"]
    assert tree(out).items() >= {name: good[name] for name in good if "case3" in name}.items()
    assert publish.are_there(out, read_view(out).rows[0].outputs)


def test_other_settings_make_other_results(out: Path, images: Path) -> None:
    lose_journal(out)
    assert len(run(out, images, settings_digest="other")[0]) == CASES


def forge(out: Path, images: Path) -> None:
    """Somebody's mask, and a record of it with the right digests of everything."""
    mask = out / "case0_mask.nii.gz"
    mask.write_bytes(b"a mask of somebody else")
    path = out / record.FILE_NAME
    text = json.loads(path.read_text())
    (case,) = (one for one in text["cases"] if one["case"] == "case0")
    (output,) = (one for one in case["outputs"] if one["role"] == "mask")
    output["sha256"] = digest(mask)
    output["size"] = mask.stat().st_size
    path.write_text(json.dumps(text))


def of_another_site(out: Path, images: Path) -> None:
    path = out / record.FILE_NAME
    path.write_text(path.read_text().replace('"proof": "', '"proof": "0'))


def without_proof(out: Path, images: Path) -> None:
    path = out / record.FILE_NAME
    text = json.loads(path.read_text())
    del text["proof"]
    path.write_text(json.dumps(text))


def no_json(out: Path, images: Path) -> None:
    (out / record.FILE_NAME).write_text("[1, 2")


def no_object(out: Path, images: Path) -> None:
    (out / record.FILE_NAME).write_text("[1, 2]")


@pytest.mark.parametrize("change", [forge, of_another_site, without_proof, no_json, no_object])
def test_a_record_that_this_site_did_not_write_is_not_believed(
    change: object, out: Path, images: Path, finished: Path
) -> None:
    change(out, images)
    lose_journal(out)
    assert len(run(out, images)[0]) == CASES
    assert tree(out) == tree(finished / "out")


def test_a_record_does_not_overrule_a_journal(out: Path, images: Path) -> None:
    old = (out / record.FILE_NAME).read_bytes()
    os.utime(images / "case0.nii.gz")
    assert run(out, images)[0] == ["case0"]
    (out / record.FILE_NAME).write_bytes(old)  # put back by a backup
    assert run(out, images)[0] == []


def test_results_that_no_longer_hold_go_with_their_input(
    out: Path, images: Path, tmp_path: Path
) -> None:
    lose_journal(out)
    moved = Path(shutil.copytree(images, tmp_path / "images"))
    (moved / "case0.nii.gz").write_bytes((moved / "case0.nii.gz").read_bytes()[:700])
    run(out, moved)
    assert not list(out.glob("case0*"))


def test_each_shard_takes_its_own_cases_back(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    shards = [(number, 5) for number in range(1, 6)]
    ran = [run(out, images, shard=shard)[0] for shard in shards]
    assert sum(bool(cases) for cases in ran) > 1
    for shard in shards:
        (out / schema.journal_name(shard)).unlink()
        assert run(out, images, shard=shard)[0] == []
    assert read_view(out).counts == {State.DONE: CASES}


# --- verify -----------------------------------------------------------------------------------


def test_results_as_they_were_written_are_right(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said, _ = nestseg(["verify", out], monkeypatch, capsys)
    assert code == 0
    assert said == f"{CASES} cases, {2 * CASES} files: all as they were written\n"


def test_what_differs_is_said_a_line_each_and_segmented_again(
    out: Path,
    images: Path,
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mask = out / "case0_mask.nii.gz"
    mask.write_bytes(mask.read_bytes()[:-1] + b"x")
    (out / "case2_probabilities.nii.gz").unlink()
    (out / "Doe^Jane.nii.gz").write_bytes(b"of somebody else")
    code, said, _ = nestseg(["verify", out], monkeypatch, capsys)
    assert code == 1
    assert said.splitlines()[:3] == [
        "case0_mask.nii.gz: changed",
        "case2_probabilities.nii.gz: missing",
        "files made by no case that is done: 1 (--show-phi names them)",
    ]
    assert "Doe" not in said
    assert "verify" in said.splitlines()[-1]
    assert "Doe" in nestseg(["verify", out, "--show-phi"], monkeypatch, capsys)[1]
    code, said, _ = nestseg(["verify", out, "--again"], monkeypatch, capsys)
    assert (code, "nestseg segment" in said) == (1, True)
    assert run(out, images)[0] == ["case0", "case2"]
    (out / "Doe^Jane.nii.gz").unlink()
    assert tree(out) == tree(finished / "out")
    assert nestseg(["verify", out], monkeypatch, capsys)[0] == 0


def test_a_changed_record_is_said(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = out / record.FILE_NAME
    path.write_text(path.read_text().replace('"threshold"', '"thresh0ld"'))
    code, said, _ = nestseg(["verify", out], monkeypatch, capsys)
    assert (code, said.splitlines()[0][:9]) == (1, "run.json:")


def test_nothing_is_marked_while_a_run_is_on(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (out / "case0_mask.nii.gz").unlink()
    lease = Lease(out / schema.journal_name())
    try:
        code, _, errors = nestseg(["verify", out, "--again"], monkeypatch, capsys)
    finally:
        lease.release()
    assert code == 4
    assert "another nestseg" in errors


def test_rewritten_dicom_results_are_put_on_record(images: Path, tmp_path: Path) -> None:
    class Writing(ThresholdPool):
        def outcome(self, job):  # type: ignore[no-untyped-def]
            made = super().outcome(job)
            path = job.staging / f"{job.name}_seg.dcm"
            path.write_bytes(b"of Doe^Jane")
            one = Output("seg", path.name, digest(path), path.stat().st_size)
            return replace(made, outputs=(*made.outputs, one))

    out = tmp_path / "out"
    out.mkdir()
    session.run(order(out, [images]), Writing, lambda _: None)
    for path in out.glob("*.dcm"):
        path.write_bytes(b"of nobody in particular")
    session.restamp(out)
    assert not any(publish.difference(out, one) for r in read_view(out).rows for one in r.outputs)
    written = record.read_record(out)
    assert written is not None
    assert written["cases"][0]["outputs"] == [vars(one) for one in read_view(out).rows[0].outputs]
    assert run(out, images)[0] == []


# --- A power cut ------------------------------------------------------------------------------


def test_the_journal_waits_for_the_disk(tmp_path: Path) -> None:
    lease = Lease(tmp_path / schema.journal_name())
    with closing(Journal(tmp_path / schema.journal_name(), lease.token)) as journal:
        (level,) = journal._connection.execute("PRAGMA synchronous").fetchone()
    lease.release()
    assert level >= 2  # FULL or EXTRA


def test_a_rename_is_on_the_disk_before_the_case_is_done(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of things: files synced, renamed, their folder synced, and only then done."""
    out = tmp_path / "out"
    out.mkdir()
    steps: list[str] = []
    sync, rename, done = os.fsync, Path.replace, Journal.done

    def noted_sync(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if stat.S_ISDIR(os.fstat(handle).st_mode) and path == out.resolve():
            steps.append("folder synced")
        sync(handle)

    def noted_replace(self: Path, target: Path) -> Path:
        steps.append(f"renamed {Path(target).name}")
        return rename(self, target)

    def noted_done(self: Journal, one: Publication) -> None:
        steps.append(f"done {one.outputs[0].path}")
        done(self, one)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    monkeypatch.setattr(Journal, "done", noted_done)
    run(out, images)
    assert sum(step.startswith("done") for step in steps) == CASES
    for at, step in enumerate(steps):
        if step.startswith("done"):
            assert steps[at - 1] == "folder synced"
            assert {steps[at - 2], steps[at - 3]} == {
                f"renamed {step.removeprefix('done ')}",
                f"renamed {step.removeprefix('done ').replace('mask', 'probabilities')}",
            }
    assert steps[-2:] == ["renamed run.json", "folder synced"]
