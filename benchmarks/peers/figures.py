"""Arithmetic of interleaved runs: medians, ratios round by round, and who is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

AGREEMENT = 0.995
TRUTH_LOSS = 0.002

Figures = Mapping[str, float]


def medians(runs: Sequence[Figures]) -> dict[str, float]:
    """The median of each figure that all runs have."""
    if not runs:
        return {}
    shared = set.intersection(*(set(run) for run in runs))
    return {key: median(run[key] for run in runs) for key in sorted(shared)}


def ratios(ours: Sequence[Figures], theirs: Sequence[Figures]) -> dict[str, float]:
    """Theirs divided by ours, round by round, then the median: 6 means a sixth of the time.

    Args:
        ours: one for each round.
        theirs: of the same rounds, in the same order.
    """
    rounds = [
        {key: other[key] / one[key] for key in one.keys() & other.keys() if one[key]}
        for one, other in zip(ours, theirs, strict=True)
    ]
    return medians(rounds)


def is_right(dice: float, truth_ours: float | None, truth_theirs: float | None) -> bool:
    """Whether a mask may stand beside the peer's.

    Args:
        dice: between ours and the peer's fp32 mask.
        truth_ours: Dice between ours and the truth; ``None`` where nobody knows it.
        truth_theirs: between theirs and the truth; likewise.
    """
    if dice >= AGREEMENT:
        return True
    if truth_ours is None or truth_theirs is None:
        return False
    return truth_ours >= truth_theirs - TRUTH_LOSS


def compared(row: Mapping[str, Any], peer: Mapping[str, Any]) -> dict[str, Any]:
    """The ratios of a row to a peer; empty if either was not available."""
    if not (row["runs"] and peer["runs"]):
        return {}
    return ratios(row["runs"], peer["runs"])


def wrong(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One sentence for each row whose masks are not as good as the peer's."""
    sentences = []
    for row in rows:
        for peer, found in row.get("agreement", {}).items():
            if not found["right"]:
                truth = [found["truth"], found["truth_peer"]]
                known = " against ".join("unknown" if t is None else f"{t:.4f}" for t in truth)
                sentences.append(
                    f"{row['name']}: Dice {found['dice']:.4f} with {peer}; with the truth {known}"
                )
    return sentences


def failed(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One sentence for each row that has to be there and is not."""
    return [
        f"{row['name']}: {row['reason']}"
        for row in rows
        if row["reason"] and (row["required"] or row["kind"] == "peer")
    ]
