"""Rows of a comparison: ways run in turn, round by round, then held against the peers' masks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
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
    ways: Sequence[Way],
    rounds: int,
    run: Callable[[Way], Run],
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
            print(f"round {number + 1} of {rounds}: {way.name}: {said}", flush=True)
    for row in found:
        row["median"] = figures.medians(row["runs"])
    peers = [row for row in found if row["kind"] == "peer"]
    for row in found:
        row["ratio"] = {peer["name"]: figures.compared(row, peer) for peer in peers}
    return found


def agree(
    found: Sequence[Row],
    mask: Callable[[Row, int], Array],
    truth: Callable[[int], Array] | None,
    cases: int = 1,
) -> None:
    """Add to each of our rows how far its masks agree with each peer's, and both with the truth.

    Args:
        found: of :func:`interleaved`.
        mask: reads what a row made of a case.
        truth: reads what is true of a case; ``None`` where nobody knows it.
        cases: how many there are; the means over them count.
    """
    done = [row for row in found if row["runs"]]
    ours = [row for row in done if row["kind"] == "ours"]
    peers = [row for row in done if row["kind"] == "peer"]
    same: dict[tuple[str, str], list[float]] = defaultdict(list)
    with_truth: dict[str, list[float]] = defaultdict(list)
    for number in range(cases):
        theirs = {row["name"]: mask(row, number) for row in peers}
        true = None if truth is None else truth(number)
        for row in done:
            own = theirs[row["name"]] if row["name"] in theirs else mask(row, number)
            if true is not None:
                with_truth[row["name"]].append(mean_dice(own, true))
            for name, other in theirs.items():
                same[row["name"], name].append(mean_dice(own, other))
    for row in done:
        row["truth"] = _mean(with_truth[row["name"]])
        row["agreement"] = {}
    for row in ours:
        for peer in peers:
            dice = mean(same[row["name"], peer["name"]])
            right = figures.is_right(dice, row["truth"], peer["truth"])
            row["agreement"][peer["name"]] = {
                "dice": dice,
                "truth": row["truth"],
                "truth_peer": peer["truth"],
                "right": right,
            }


def _mean(values: Sequence[float]) -> float | None:
    return mean(values) if values else None


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
        "tiling": asdict(way.tiling),
        "options": dict(way.options),
        "required": way.required,
        "reason": "",
        "runs": [],
    }


def _reason(done: Run) -> str:
    if done.code in (UNAVAILABLE, NOTHING_STARTED):
        return f"not available: {done.error}"
    return f"failed with {done.code}: {done.error}"
