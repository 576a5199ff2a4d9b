"""What a bundle that may be run must keep: the checks behind the static audit.

They build networks and workflows from the bundle's configs, so that they run its code; on a copy of
the bundle, from another working directory, on the CPU and without data.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from nestseg.bundle.checks import label, layout, metadata, network, preprocessing, workflow
from nestseg.bundle.findings import Finding


def run(bundle: Path, schema: Path | None = None) -> list[Finding]:
    """Every check on one bundle.

    Args:
        bundle: its folder; nothing is written into it.
        schema: MONAI's JSON schema of the metadata, which nestseg does not carry.
    """
    found = layout.check(bundle)
    described = metadata.read(bundle)
    if described is None:
        return found
    found += metadata.check(described)
    if schema is not None:
        found += metadata.check_schema(described, schema)
    with tempfile.TemporaryDirectory(prefix="nestseg-") as scratch:
        copy = Path(shutil.copytree(bundle, Path(scratch) / bundle.name))
        found += workflow.check(copy, Path(scratch))
        found += network.check(copy, described)
    found += preprocessing.check(bundle)
    found += label.check(bundle, described)
    return list(dict.fromkeys(found))
