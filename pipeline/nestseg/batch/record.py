"""``run.json``: what was run on what, with which weights, and what came of it.

It bears a proof that only this site can make, so that a lost journal can be rebuilt from it.
"""

from __future__ import annotations

import hmac
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nestseg.batch.states import State
from nestseg.batch.view import CaseRow, RunView
from nestseg_prep.disk import sync_folder
from nestseg_prep.site_key import keyed_hash

FILE_NAME = "run.json"
_SKIPPED = (State.REFUSED, State.UNFIT)


def write_record(out: Path, view: RunView, staging: Path) -> Path:
    """Write ``run.json`` from the journals.

    Args:
        out: the output folder.
        view: what they say.
        staging: the runner's own folder: one that has lost it cannot rename the file out of it.

    Returns:
        The path of the file.

    Raises:
        OSError: it cannot be written; the one before is still whole.
    """
    header = view.header
    record = {
        "nestseg": header.nestseg,
        "bundle": header.bundle,
        "options": header.options,
        "started": header.started,
        "finished": header.finished,
        "device": header.device,
        "labels": header.labels,
        "python": header.python,
        "libraries": header.libraries,
        "cases": [_case(row) for row in view.rows if row.state not in _SKIPPED],
        "skipped": [_skipped(row) for row in view.rows if row.state in _SKIPPED],
        "other_files": header.other_files,
    }
    record["proof"] = _proof(record)
    partial = staging / FILE_NAME
    with partial.open("w") as file:
        json.dump(record, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    path = out / FILE_NAME
    partial.replace(path)
    sync_folder(out)
    return path


def read_record(out: Path) -> dict[str, Any] | None:
    """``run.json`` of an output folder; ``None`` unless this site wrote it, as it is."""
    try:
        record = json.loads((out / FILE_NAME).read_bytes())
        proof = str(record.pop("proof"))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return record if hmac.compare_digest(proof.encode(), _proof(record).encode()) else None


def _proof(record: dict[str, Any]) -> str:
    """What only a holder of the site's key can say of a record."""
    plain = json.loads(json.dumps(record))  # as it is when it is read again
    return keyed_hash(json.dumps(plain, sort_keys=True), purpose="run record").hex()


def _case(row: CaseRow) -> dict[str, Any]:
    paths = {output.role: output.path for output in row.outputs}
    dicom = [paths[role] for role in ("seg", "sr", "rtstruct") if role in paths]
    return {
        "case": row.name,
        "key": row.key,
        "kind": row.kind,
        "modality": row.modality,
        "part": row.part,
        "shape": row.shape,
        "spacing_mm": row.spacing,
        "findings": row.findings,
        "state": row.state,
        "error": row.reason,
        "cause": row.cause,
        "attempts": row.attempts,
        "mask": paths.get("mask"),
        "preview": paths.get("preview"),
        "dicom": dicom or None,
        "outputs": [asdict(output) for output in row.outputs],
        "volumes_ml": row.facts.volumes_ml,
        "areas_mm2": row.facts.areas_mm2,
        "pixels": row.facts.pixels,
        "contours": row.facts.contours,
        "uncertainty": row.facts.uncertainty,
        "flags": [asdict(flag) for flag in row.facts.flags],
        "notes": row.facts.notes,
        "computed_by": row.facts.computed_by,
        "seconds": round(sum(row.facts.seconds.values()), 3),
        "stages": row.facts.seconds,
        "peak_memory_mb": row.facts.peak_memory_mb,
        "in_last_run": row.seen,
        "started": row.started,
        "finished": row.finished,
        "input_digest": row.input_digest,
        "settings_digest": row.settings_digest,
    }


def _skipped(row: CaseRow) -> dict[str, Any]:
    return {
        "key": row.key,
        "kind": row.kind,
        "modality": row.modality,
        "state": row.state,
        "reason": row.reason,
    }
