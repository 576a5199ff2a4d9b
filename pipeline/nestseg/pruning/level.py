"""Which level ``--level auto`` stands for: the one that a pruning of these weights chose."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from nestseg.bundle.options import SegmentOptions
from nestseg.pruning import record
from nestseg_prep.errors import InputError


def resolved(bundle: Path, options: SegmentOptions) -> SegmentOptions:
    """The options with a level instead of ``"auto"``; others as they are.

    Args:
        bundle: folder of the first bundle of the run.
        options: of the run.

    Raises:
        InputError: nothing was measured for these weights; the message says what measures it.
    """
    if options.level != "auto":
        return options
    name = bundle.name
    remedy = (
        f"run `nestseg prune {name} --data DATA --out DIR` and copy DIR/{record.FILE_NAME} into "
        f"{name}/docs, or give --level L1, L2, …"
    )
    if not (bundle / record.FILE_NAME).exists():
        raise InputError(f"{name}: level auto needs {record.FILE_NAME}; {remedy}")
    found = record.read(bundle)
    try:
        weights = hashlib.sha256((bundle / "models" / "model.pt").read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{name}: models/model.pt cannot be read ({error.strerror})") from error
    if weights == found.weights_sha256:
        return replace(options, level=None)  # the bundle is what the pruning made
    if weights != found.source.weights_sha256:
        raise InputError(f"{name}: {record.FILE_NAME} is about other weights; {remedy}")
    return replace(options, level=found.chosen.level)
