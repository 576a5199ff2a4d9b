"""What a run does with what it finds: retries, replacements, a memory of headers."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from nestseg.batch import publish, session
from nestseg.batch.events import Event, Kind
from nestseg.batch.header_cache import HeaderCache
from nestseg.batch.jobs import Job, Outcome
from nestseg.batch.read import read_view
from nestseg.batch.states import Cause, State
from nestseg.batch.view import CaseRow
from nestseg_prep import phantom, site_key
from nestseg_prep.dicom.scan import scan
from nestseg_prep.nifti import read_nifti, write_nifti
from nestseg_prep.phantom import Phantom
from nestseg_prep.volume import Volume

from .threshold_run import ThresholdPool, order, tree


class Failing(ThresholdPool):
    """Fails as it is told to, by name of the case, and remembers which attempts were gentle."""

    def __init__(self, causes: dict[str, list[Cause]]) -> None:
        super().__init__()
        self.causes, self.gentle = causes, []

    def outcome(self, job: Job) -> Outcome:
        left = self.causes.get(job.name, [])
        self.gentle.append(job.gentle)
        if left:
            self.ran.append(job.name)
            return Outcome(job.name, job.attempt, left.pop(0), "as told")
        return super().outcome(job)


def images(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for number, name in enumerate(names):
        noise = np.random.default_rng(number).normal(size=(20, 20, 20)).astype(np.float32)
        write_nifti(Volume(noise, np.eye(4)), folder / f"{name}.nii.gz")
    return folder


def run(out: Path, folder: Path, pool: ThresholdPool, **changes: object) -> list[Event]:
    out.mkdir(exist_ok=True)
    events: list[Event] = []
    assert session.run(order(out, [folder], **changes), lambda: pool, events.append).finished
    return events


def rows(out: Path) -> dict[str, CaseRow]:
    return {row.name: row for row in read_view(out).rows}


def test_what_fails_is_tried_again_as_its_cause_says(tmp_path: Path) -> None:
    folder, out = images(tmp_path / "in", "a", "b", "c", "d", "e", "f"), tmp_path / "out"
    pool = Failing(
        {
            "a": [Cause.INPUT] * 9,
            "f": [Cause.CODE] * 9,
            "b": [Cause.KILLED] * 9,
            "c": [Cause.TIMEOUT, Cause.ERROR],
            "d": [Cause.MEMORY] * 9,
        }
    )
    run(out, folder, pool)
    found = rows(out)
    states = {name: (row.state, row.cause, row.attempts) for name, row in found.items()}
    assert states == {
        "a": (State.FAILED, Cause.INPUT, 1),
        "b": (State.QUARANTINED, Cause.KILLED, 3),
        "c": (State.DONE, None, 3),
        "d": (State.QUARANTINED, Cause.MEMORY, 2),
        "e": (State.DONE, None, 1),
        "f": (State.FAILED, Cause.CODE, 1),
    }
    assert pool.gentle.count(True) == 1
    again = Failing({})
    events = run(out, folder, again)
    assert sorted(again.ran) == ["a", "f"]
    kept = {event.case: event.kind for event in events if event.kind in (Kind.KEPT, Kind.PUT_ASIDE)}
    assert kept == {"b": Kind.PUT_ASIDE, "c": Kind.KEPT, "d": Kind.PUT_ASIDE, "e": Kind.KEPT}
    last = Failing({})
    run(out, folder, last, retry=True)
    assert sorted(last.ran) == ["b", "d"]
    assert read_view(out).counts == {State.DONE: 6}


def test_results_that_no_longer_hold_go_when_the_case_fails(tmp_path: Path) -> None:
    folder, out = images(tmp_path / "in", "a", "b"), tmp_path / "out"
    run(out, folder, ThresholdPool())
    assert len(tree(out)) == 4
    (folder / "a.nii.gz").write_bytes((folder / "b.nii.gz").read_bytes()[:-50])
    run(out, folder, ThresholdPool())
    assert {name[0] for name in tree(out)} == {"b"}
    assert rows(out)["a"].state is State.FAILED


def test_what_was_on_its_way_is_finished_by_the_next_runner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = images(tmp_path / "in", "a", "b", "c"), tmp_path / "out"
    run(tmp_path / "undisturbed", folder, ThresholdPool())
    moves = iter(range(100))
    replace = Path.replace

    def killed(self: Path, target: Path) -> Path:
        if target.parent == out and next(moves) == 3:  # between the two files of the second case
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    monkeypatch.setattr(publish, "leave", lambda _: None)  # nor could a dead runner tidy up
    with pytest.raises(KeyboardInterrupt):
        run(out, folder, ThresholdPool())
    monkeypatch.undo()
    assert len(tree(out)) > 3
    pool = ThresholdPool()
    events = run(out, folder, pool)
    assert sum(event.kind is Kind.RECOVERED for event in events) == 1
    assert pool.ran == ["c"]
    assert tree(out) == tree(tmp_path / "undisturbed")


# --- Series that are not what they seemed -----------------------------------------------------


def spread(root: Path, *, gap: bool) -> None:
    """A series of which a later folder holds the last slices, or all but some in the middle."""
    paths = phantom.write(Phantom(slices=12).datasets(), root / "a")
    (root / "z").mkdir()
    ordered = scan(root).series[0].files
    assert len(ordered) == len(paths)
    for path in ordered[8:]:
        path.rename(root / "z" / path.name)
    if gap:
        for path in ordered[6:8]:
            path.unlink()


def test_a_series_that_goes_on_in_a_later_folder_is_whole_at_the_end(tmp_path: Path) -> None:
    spread(tmp_path / "in", gap=False)
    pool = ThresholdPool()
    run(tmp_path / "out", tmp_path / "in", pool)
    (row,) = read_view(tmp_path / "out").rows
    assert row.state is State.DONE
    assert row.shape is not None
    assert row.shape[2] == 12
    mask = row.output("mask")
    assert mask is not None
    assert read_nifti(tmp_path / "out" / mask.path).shape == row.shape
    assert len(tree(tmp_path / "out")) == 2


def test_a_series_that_turns_out_to_be_refused_leaves_nothing(tmp_path: Path) -> None:
    spread(tmp_path / "in", gap=True)
    run(tmp_path / "out", tmp_path / "in", ThresholdPool())
    (row,) = read_view(tmp_path / "out").rows
    assert row.state is State.REFUSED
    assert tree(tmp_path / "out") == {}


# --- Headers that were read before ------------------------------------------------------------


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    dataset = phantom.every(phantom.setting(SeriesDescription="QX10PLANT"))
    return phantom.write(dataset(Phantom(slices=4).datasets()), tmp_path / "series")


def read_all(cache_file: Path, paths: list[Path]) -> int:
    """Read headers through a cache; how many files had to be read."""
    cache = HeaderCache(cache_file, but=cache_file.parent / "unpacked")
    for path in paths:
        assert cache.read(path).description == "QX10PLANT"
        assert cache.read(path).path == path
    cache.close()
    return cache.read_files


def test_no_header_is_read_twice_unless_its_file_changed(
    series: list[Path], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    assert [read_all(cache, series) for _ in range(2)] == [4, 0]
    series[1].write_bytes(series[1].read_bytes() + b"\0")
    assert read_all(cache, series) == 1
    assert b"QX10PLANT" not in cache.read_bytes()


def test_a_cache_of_another_site_or_in_pieces_is_no_cache(
    series: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    read_all(cache, series)
    monkeypatch.setenv(site_key.VARIABLE, "the key of another site")
    assert read_all(cache, series) == 4
    monkeypatch.undo()
    with sqlite3.connect(cache) as db:
        db.execute("UPDATE headers SET header = x'00ff'")
    db.close()
    assert read_all(cache, series) == 4
    cache.write_bytes(b"no database" * 500)
    assert read_all(cache, series) == 8  # not even what was just read is known
