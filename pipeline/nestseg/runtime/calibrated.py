"""Where a bundle keeps its int8 model, and whether it is that of its weights. No torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

FOLDER: Final = Path("models", "int8")
"""In a bundle: ``model.xml`` and ``model.bin`` as OpenVINO writes them, and the record."""

RECORD: Final = "record.json"


def folder(bundle: Path, weights_sha256: str) -> Path | None:
    """The calibrated model of a bundle; ``None`` if there is none, or it is of other weights."""
    place = bundle / FOLDER
    try:
        record = json.loads((place / RECORD).read_text())
        fits = record["weights_sha256"] == weights_sha256 and record["kept"] is True
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return place if fits else None
