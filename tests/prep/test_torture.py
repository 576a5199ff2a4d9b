"""The catalogue of odd series: nothing silently wrong, and what can be read is read right."""

from __future__ import annotations

import pytest

from nestseg_prep import torture
from nestseg_prep.phantom.kinds import KINDS


@pytest.fixture(scope="module")
def rows():
    return torture.run()


@pytest.mark.parametrize("number", range(len(KINDS)), ids=[kind.name for kind in KINDS])
def test_each_kind_comes_out_as_expected(number, rows):
    row = rows[number]
    assert row.as_expected, f"{row.safe}; asked: {row.asked}"


def test_the_goal_is_reached(rows):
    counted = [row for row in rows if row.counted]
    assert len(counted) == 52
    assert not torture.goal_missed(rows)
    assert sum("right" in row.asked.verdict for row in counted) >= torture.GOAL_RIGHT
    assert not any("WRONG" in (row.safe.verdict, row.asked.verdict) for row in rows)


def test_a_reader_that_errs_is_caught(monkeypatch, tmp_path):
    """The judge itself: a volume that is shifted, stretched or has other values is WRONG."""
    kind, read = KINDS[0], torture.read_volume
    for number, change in enumerate(
        [
            lambda volume: volume.affine.__setitem__((0, 3), volume.affine[0, 3] + 0.2),
            lambda volume: volume.affine.__setitem__((0, 0), volume.affine[0, 0] * 1.01),
            lambda volume: volume.array.__setitem__((3, 4, 5), -7),
        ]
    ):

        def wrong(ref, change=change):
            volume = read(ref)
            change(volume)
            return volume

        with monkeypatch.context() as patch:
            patch.setattr(torture, "read_volume", wrong)
            row = torture.examine(kind, tmp_path / str(number))
        assert row.safe.verdict == "WRONG"
        assert torture.goal_missed([row])


def test_the_command_prints_a_table_and_says_when_the_goal_is_missed(capsys, monkeypatch):
    assert torture.main(["--kind", "01_clean"]) == 0
    assert "| 01_clean | read | 1 volume | right |" in capsys.readouterr().out
    monkeypatch.setattr(torture, "scan", lambda *_, **__: torture.ScanResult((), ()))
    assert torture.main(["--kind", "01_clean"]) == 1
    assert "01_clean: not as expected (WRONG" in capsys.readouterr().err
