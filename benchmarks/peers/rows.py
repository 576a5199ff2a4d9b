"""Rows of a comparison: ways run in turn, round by round, then held against the peers' masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import starmap
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.peers import figures
from benchmarks.peers.agreement import Array, mean_dice
from benchmarks.peers.measure import UNAVAILABLE, Run
from benchmarks.peers.ways import Way

Row = dict[str, Any]
NOTHING_STARTED = 2
"""Exit code of ``nestseg`` where an option is unknown, or this machine cannot do what it asks."""


def interleaved(
    ways: Sequence[Way], rounds: int, run: Callable[[Way], Run], tell: Callable[[str], None] = print
) -> list[Row]:
    """Run every way once in each round, A B A B, so that what else the machine does hits all alike.

    A way that fails is not tried again; its row says why.
    """
    found = [_empty(way) for way in ways]
    for number in range(rounds):
        for way, row in zip(ways, found, strict=True):
            if row["reason"]:
                continue
            done = run(way)
            if done.code:
                row["reason"], row["runs"] = _reason(done), []
            else:
                row["runs"].append(done.figures)
            seconds = done.figures.get("forward_s", done.wall_s)
            said = row["reason"] or f"{seconds:.1f} s, {done.peak_rss / 1e9:.1f} GB"
            tell(f"round {number + 1} of {rounds}: {way.name}: {said}")
    for row in found:
        row["median"] = figures.medians(row["runs"])
    peers = [row for row in found if row["kind"] == "peer"]
    for row in found:
        row["ratio"] = {peer["name"]: figures.compared(row, peer) for peer in peers}
    return found


def agree(found: Sequence[Row], masks: Callable[[Row], Any], truth: Any) -> None:
    """Add to each of our rows how far its mask agrees with each peer's, and both with the truth.

    Args:
        found: of :func:`interleaved`.
        masks: the label map of a row, or a sequence of them.
        truth: likewise; ``None`` where nobody knows it.
    """
    done = [row for row in found if row["runs"]]
    theirs = {row["name"]: list(_maps(masks(row))) for row in done if row["kind"] == "peer"}
    true = None if truth is None else list(_maps(truth))
    for row in done:
        maps = theirs[row["name"]] if row["kind"] == "peer" else list(_maps(masks(row)))
        row["truth"] = None if true is None else _mean(maps, true)
        row["agreement"] = {}
        for name, other in theirs.items() if row["kind"] == "ours" else ():
            same = _mean(maps, other)
            one, both = row["truth"], None if true is None else _mean(other, true)
            right = figures.is_right(same, one or 0.0, 1.0 if both is None else both)
            row["agreement"][name] = {
                "dice": same,
                "truth": one,
                "truth_peer": both,
                "right": right,
            }


def array(path: Path) -> Array:
    """A label map that was kept."""
    import numpy as np

    found: Array = np.load(path)
    return found


def _empty(way: Way) -> Row:
    return {
        "name": way.name,
        "slug": way.slug,
        "kind": way.kind,
        "program": way.program,
        "overlap": way.overlap,
        "options": dict(way.options),
        "required": way.required,
        "reason": "",
        "runs": [],
    }


def _reason(done: Run) -> str:
    if done.code in (UNAVAILABLE, NOTHING_STARTED):
        return f"not available: {done.error}"
    return f"failed with {done.code}: {done.error}"


def _maps(found: Any) -> Iterable[Array]:
    return found if isinstance(found, list) else [found]


def _mean(first: Sequence[Array], second: Sequence[Array]) -> float:
    return mean(starmap(mean_dice, zip(first, second, strict=True)))
