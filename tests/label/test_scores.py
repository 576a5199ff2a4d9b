"""Scores belong to the weights that gave them."""

from __future__ import annotations

from pathlib import Path

from nestseg.label.scores import Scores


def test_scores_of_other_weights_are_not_there(tmp_path: Path) -> None:
    scores = Scores(tmp_path / "scores.sqlite")
    assert not scores.asked_for("m")
    scores.put("a", "w1", {"m": 0.5, "n": 0.1})
    scores.put("b", "w1", {"m": 0.25})
    assert scores.of("m", "w1") == {"a": 0.5, "b": 0.25}
    assert scores.of("m", "w2") == {}
    scores.put("a", "w2", {"m": 0.75})
    assert Scores(tmp_path / "scores.sqlite").of("m", "w2") == {"a": 0.75}
    assert scores.of("m", "w1") == {"b": 0.25}
    assert scores.of("n", "w1") == {"a": 0.1}
    assert scores.asked_for("m")
