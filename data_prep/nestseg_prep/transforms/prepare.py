"""Preparing a training set: the constant part of a pipeline, run once and kept in a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from monai.transforms import Compose

from nestseg_prep import prepared
from nestseg_prep.errors import InputError
from nestseg_prep.prepared import InputDigests, StoredCase
from nestseg_prep.transforms.samples import TARGET, Case, make_samples, settings


@dataclass(frozen=True)
class CaseOutcome:
    """What became of one case.

    Attributes:
        number: in the list, from 0.
        state: written now, found written by an earlier run, or failed.
        stored: where it did not fail.
        error: why it failed, one line.
    """

    number: int
    state: Literal["written", "kept", "failed"]
    stored: StoredCase | None = None
    error: str = ""


def prepare_training_set(
    cases: Sequence[Case],
    transform: Compose,
    out: Path,
    *,
    on_case: Callable[[CaseOutcome], None] | None = None,
) -> list[CaseOutcome]:
    """Run the constant part of a training pipeline over every case and keep what comes out.

    A case whose inputs and settings are those of an earlier run is kept; one that fails stops no
    other. ``prepared.json`` is written at the end, and files that no longer belong to a case are
    removed then; a run that was interrupted goes on where it stopped.

    Args:
        cases: from a cohort; values that are paths stand for the contents there.
        transform: the whole pipeline; all before its first random transform is run.
        out: folder, made if it is missing.
        on_case: called when a case is finished.

    Returns:
        One for each case, in their order.

    Raises:
        InputError: ``out`` is no folder, or a transform hides what it does.
        OSError: a file cannot be written.
    """
    made_of = described(transform)
    settings_digest = prepared.digest_of(made_of)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: not a folder; choose another output folder")
    out.mkdir(parents=True, exist_ok=True)
    digests = InputDigests(prepared.read_record(out).get("inputs"))
    outcomes = []
    entries = []
    for number, case in enumerate(cases):
        inputs, outcome = _prepared(number, case, transform, out, digests, settings_digest)
        outcomes.append(outcome)
        entries.append(_entry(outcome, inputs))
        if on_case is not None:
            on_case(outcome)
    prepared.write_record(out, made_of, entries, digests)
    return outcomes


def described(transform: Compose) -> dict[str, Any]:
    """The settings of a pipeline.

    Raises:
        InputError: a transform hides what it does, so that a change of it would go unnoticed.
    """
    try:
        return settings(transform)
    except TypeError as error:
        raise InputError(
            f"the training transforms cannot be prepared: {error}; put what makes it behind the "
            "first random transform"
        ) from error


def _prepared(
    number: int, case: Case, transform: Compose, out: Path, digests: InputDigests, settings_: str
) -> tuple[dict[str, Any], CaseOutcome]:
    try:
        inputs = digests.of_case(case)
    except OSError as error:
        return {}, CaseOutcome(number, "failed", error=_reason(error))
    digest = prepared.case_digest(inputs, settings_)
    earlier = prepared.find_case(out, digest)
    if earlier is not None:
        return inputs, CaseOutcome(number, "kept", earlier)
    try:
        samples = make_samples(case, transform)
    except (RuntimeError, ValueError) as error:  # MONAI turns all that transforms raise into one
        return inputs, CaseOutcome(number, "failed", error=_reason(error))
    try:
        arrays, notes = [list(part) for part in zip(*samples, strict=True)]
        stored = prepared.write_case(out, digest, arrays, notes, TARGET)
    except (ValueError, TypeError) as error:
        return inputs, CaseOutcome(number, "failed", error=_reason(error))
    return inputs, CaseOutcome(number, "written", stored)


def _entry(outcome: CaseOutcome, inputs: dict[str, Any]) -> dict[str, Any]:
    stored = outcome.stored
    return {
        "case": outcome.number,
        "state": outcome.state,
        "error": outcome.error,
        "inputs": inputs,
        "digest": stored.digest if stored else "",
        "samples": len(stored.notes) if stored else 0,
        "shapes": {key: array.shape for key, array in stored.arrays.items()} if stored else {},
        "bytes": stored.bytes if stored else 0,
        "classes": stored.classes if stored else {},
    }


def _reason(error: BaseException) -> str:
    """Why, in one line; MONAI wraps the error that helps in others that do not."""
    while error.__cause__ is not None and not isinstance(error, InputError):
        error = error.__cause__
    if isinstance(error, OSError):  # its message holds a path, and a path may name a patient
        return error.strerror or type(error).__name__
    first = (str(error).splitlines() or [""])[0]
    return first if isinstance(error, InputError) else f"{type(error).__name__}: {first}"[:160]
