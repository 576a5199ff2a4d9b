"""Which level ``--level auto`` stands for: what a pruning of these weights measured decides it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from nestseg.bundle.options import SegmentOptions
from nestseg.pruning import record
from nestseg.pruning.choice import Choice, Rule, choose
from nestseg_prep.errors import InputError


def resolved(
    bundle: Path, options: SegmentOptions, budget: Rule | None = None
) -> tuple[SegmentOptions, str]:
    """The options with a level instead of ``"auto"``; others as they are.

    Args:
        bundle: folder of the first bundle of the run.
        options: of the run.
        budget: what a case may take, as the pruning measured it: the choice is made again, among
            the levels in its record. Without it, the level is the one that the pruning chose.

    Returns:
        The options, and a sentence about the choice; empty if there was none.

    Raises:
        InputError: nothing was measured for these weights (the message says what measures it), no
            level keeps within the budget, or there is a budget and nothing to choose.
    """
    if options.level != "auto":
        if budget is not None:
            raise InputError("a budget is for a level that is to be chosen; add --level auto")
        return options, ""
    found = _record(bundle)
    if found.weights_sha256 == _weights(bundle):  # the bundle is what the pruning made
        if budget is not None:
            choose([one for one in found.levels if one.level == found.chosen.level], budget)
        return replace(options, level=None), ""
    choice = found.chosen if budget is None else choose(found.levels, budget)
    return replace(options, level=choice.level), _sentence(bundle.name, choice)


def _record(bundle: Path) -> record.Record:
    """The record of a pruning that made this bundle, or was made from it."""
    name = bundle.name
    remedy = (
        f"run `nestseg prune {name} --data DATA --out DIR` and copy DIR/{record.FILE_NAME} into "
        f"{name}/docs, or give --level L1, L2, …"
    )
    if not (bundle / record.FILE_NAME).exists():
        raise InputError(f"{name}: level auto needs {record.FILE_NAME}; {remedy}")
    found = record.read(bundle)
    if _weights(bundle) not in (found.weights_sha256, found.source.weights_sha256):
        raise InputError(f"{name}: {record.FILE_NAME} is about other weights; {remedy}")
    return found


def _weights(bundle: Path) -> str:
    try:
        return hashlib.sha256((bundle / "models" / "model.pt").read_bytes()).hexdigest()
    except OSError as error:
        message = f"{bundle.name}: models/model.pt cannot be read ({error.strerror})"
        raise InputError(message) from error


def _sentence(name: str, choice: Choice) -> str:
    return f"{name}: level auto is L{choice.level}, {choice.reason}"
