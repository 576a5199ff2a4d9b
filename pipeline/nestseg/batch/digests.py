"""By what a run recognises that an input or what is done with it has changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nestseg.bundle import manifest
from nestseg_prep.dicom.references import SeriesRef
from nestseg_prep.dicom.rules import Rules

_FOLDERS = ("configs/", "models/")
_SUFFIXES = (".py", ".pt", ".pth", ".safetensors")


def input_digest(ref: SeriesRef) -> str:
    """Names, sizes and times of the files of a series; ``""`` if one of them is gone.

    Not where they lie: a folder may be moved, and an archive is unpacked elsewhere each time.
    """
    digest = hashlib.sha256(ref.key.encode())
    for path in ref.files:
        try:
            status = path.stat()
        except OSError:
            return ""
        name = path.name.encode("utf-8", "surrogateescape")
        digest.update(b"%s\0%d\0%d\0" % (name, status.st_size, status.st_mtime_ns))
    return digest.hexdigest()


def settings_digest(bundles: Sequence[Path], rules: Rules, options: dict[str, Any]) -> str:
    """The bundles' files and the options: what changes the results of a series.

    Args:
        bundles: folders.
        rules: of the ingest.
        options: as plain data.
    """
    lines = [manifest.make(bundle).splitlines() for bundle in bundles]
    files = [[line for line in of_one if _matters(line)] for of_one in lines]
    text = json.dumps([files, asdict(rules), options], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _matters(line: str) -> bool:
    """Whether a file is a config, weights or code; documents are not."""
    path = line.partition("  ")[2]
    return path.startswith(_FOLDERS) or path.endswith(_SUFFIXES)
