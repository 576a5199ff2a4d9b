"""A journal that was lost → rows again, of cases whose results are proved to be their own.

``run.json`` says of each case which input, bundle and options its outputs were made from, and what
their digests are; that it was written by this site is proved by its key. What it says of a case is
believed if every output has its digest still. All else is segmented again: whether an input or the
settings have changed since is looked at as in every run.
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from nestseg.batch import publish
from nestseg.batch.entries import Entry, Restored
from nestseg.batch.journal import Journal
from nestseg.batch.read import facts_from, outputs_from
from nestseg.batch.record import read_record
from nestseg.batch.shards import Shard, in_shard
from nestseg.batch.states import Facts, State

_FACTS = [one.name for one in fields(Facts) if one.name != "seconds"]  # called "stages" there
_SERIES = ("kind", "modality", "part", "shape", "findings")


def rebuild(journal: Journal, out: Path, shard: Shard) -> int | None:
    """Fill an empty journal from ``run.json``.

    Returns:
        How many cases are done; ``None`` if there was nothing to rebuild, or nothing proved.

    Raises:
        StorageError: the journal cannot be written.
        LeaseLostError: another runner has taken over.
    """
    record = read_record(out) if journal.is_empty else None
    if record is None:
        return None
    cases = [
        case
        for case in record["cases"]
        if case["state"] == State.DONE and in_shard(case["key"], shard)
    ]
    if not cases:
        return None
    restored = [_restored(out, case) for case in cases]
    journal.note(**{name: record[name] for name in ("bundle", "labels", "device")})
    journal.restore(restored)
    return sum(one.entry.state is State.DONE for one in restored)


def _restored(out: Path, case: dict[str, Any]) -> Restored:
    """A case: done if its outputs are as they were; else they are replaced by the next run."""
    outputs = outputs_from(json.dumps(case["outputs"]))
    same = not any(publish.difference(out, output) for output in outputs)
    # Records of earlier versions lack what a fact was added for since.
    facts = {name: case[name] for name in _FACTS if name in case} | {"seconds": case["stages"]}
    entry = Entry(
        case["key"],
        case["case"],
        {name: case[name] for name in _SERIES} | {"spacing": case["spacing_mm"]},
        State.DONE if same else State.FOUND,
        input_digest=case["input_digest"],
        settings_digest=case["settings_digest"],
    )
    times = (case["attempts"], case["started"], case["finished"])
    return Restored(entry, outputs, facts_from(json.dumps(facts)), *times)
