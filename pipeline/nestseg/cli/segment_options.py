"""Options of ``nestseg segment`` that another command passes on to it. Never imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from nestseg.cli import amounts
from nestseg_prep.dicom.rules import SAFE, Rules
from nestseg_prep.errors import InputError

_NOT_HERE = ("paths", "only", "source", "study", "series", "match", "shard")


@dataclass(frozen=True)
class SegmentWords:
    """Options as they were written, and what of them is needed before the command runs.

    Attributes:
        words: the options.
        select: file with rules that replace those of a bundle.
        one_per_study: whether one series of each study is taken.
        rules: what is refused.
        send_to: where results go; ``""`` for nowhere.
    """

    words: Sequence[str] = ()
    select: Path | None = None
    one_per_study: bool = False
    rules: Rules = SAFE
    send_to: str = ""


def read(words: Sequence[str]) -> SegmentWords:
    """Read options as ``nestseg segment`` does, so that a wrong one is found before any study.

    Raises:
        InputError: one has no meaning here, or not this value.
        click.UsageError: there is no such option.
    """
    from nestseg.cli import app

    command = typer.main.get_group(app).commands["segment"]
    context = command.make_context("segment", ["--bundle", "-", "--out", "-", *words])
    given = context.params
    for name in _NOT_HERE:
        origin = context.get_parameter_source(name)
        if origin is not None and origin.name == "COMMANDLINE":
            shown = given["paths"][0] if name == "paths" else f"--{name}".replace("source", "from")
            raise InputError(f"{shown}: `nestseg receive` does not take it; leave it out")
    amounts.options(given["tta"], given["level"], given["ensemble"])
    amounts.megabytes(given["max_memory"])
    amounts.budget(given["budget_ms"], given["budget_mb"])
    return SegmentWords(
        tuple(words),
        given["select"],
        given["one_per_study"],
        Rules(given["fill_missing"], given["min_slices"], given["regroup"]),
        given["send_to"],
    )
