"""``run.json``: what was run on what, with which weights, and what came of it."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nestseg.batch.cases import Skipped
from nestseg.batch.runner import Result
from nestseg.bundle.loaded import LoadedBundle
from nestseg_prep.dicom.references import OtherFile

FILE_NAME = "run.json"


def write_record(
    out: Path,
    bundle: LoadedBundle,
    results: Iterable[Result],
    skipped: Iterable[Skipped],
    others: Iterable[OtherFile],
) -> Path:
    """Write ``run.json`` into ``out``, under a temporary name first.

    Returns:
        The path of the file.
    """
    record = {
        "nestseg": version("nestseg"),
        "bundle": {
            "name": bundle.name,
            "version": bundle.version,
            "weights_sha256": bundle.weights_sha256,
        },
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": str(bundle.device),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in ("torch", "monai", "pydicom", "nibabel")},
        "cases": [_case(result, out) for result in results],
        "skipped": [_skipped(item) for item in skipped],
        "other_files": dict(sorted(Counter(str(other.finding.code) for other in others).items())),
    }
    path = out / FILE_NAME
    partial = out / f".{FILE_NAME}.partial"
    with partial.open("w") as file:
        json.dump(record, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return path


def _case(result: Result, out: Path) -> dict[str, Any]:
    ref = result.case.ref
    return {
        "case": result.case.name,
        "key": ref.key,
        "kind": ref.kind,
        "modality": ref.modality,
        "shape": ref.shape,
        "spacing_mm": ref.spacing,
        "findings": [finding.to_json() for finding in ref.findings],
        "state": "done" if result.done else "failed",
        "error": result.error,
        "mask": result.mask and str(result.mask.relative_to(out)),
        "preview": result.preview and str(result.preview.relative_to(out)),
        "dicom": result.dicom and [str(path.relative_to(out)) for path in result.dicom],
        "volumes_ml": result.volumes_ml,
        "seconds": round(result.seconds, 3),
    }


def _skipped(item: Skipped) -> dict[str, Any]:
    return {
        "key": item.ref.key,
        "kind": item.ref.kind,
        "modality": item.ref.modality,
        "state": "refused" if item.refused else "does-not-fit",
        "reason": item.reason,
    }
