"""Whether a bundle runs here, and whether one of ours keeps the rules of the house.

``segment`` and the validation of a training are run on a phantom. The rules of the house hold for
bundles that are made from recipes; of others what differs is a note.

Both build networks and workflows from the bundle's configs, so they run its code: on a copy of the
bundle, on the CPU, without data, and in a cage unless the bundle is trusted.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from nestseg.bundle import cage, locate, trust
from nestseg.bundle.built import make_importable
from nestseg.bundle.caged import BundleCodeError, BundleProcessError, Caged
from nestseg.bundle.checks import (
    label,
    language,
    layout,
    metadata,
    network,
    preprocessing,
    running,
    workflow,
)
from nestseg.bundle.findings import Finding, Severity
from nestseg.bundle.kernel import Grants
from nestseg.bundle.recipe import RECIPE
from nestseg.bundle.review import review

_LONGEST_S: Final = 900.0
_MOST_FINDINGS: Final = 1000
_BROKEN: Final = (
    *(BundleProcessError, BundleCodeError, MemoryError),
    *(LookupError, TypeError, ValueError),  # an answer of another form
)


def check(bundle: Path, schema: Path | None = None) -> list[Finding]:
    """Review a bundle, run it, and hold it against the rules of the house.

    Args:
        bundle: its folder; nothing is written into it.
        schema: MONAI's JSON schema of the metadata, which nestseg does not carry.

    Raises:
        InputError: the bundle needs a cage, and this system cannot hold one.
    """
    if not trust.needs_cage(bundle):
        return review(bundle) + run(bundle, schema) + running.segments(bundle)
    paths = (locate.home(), bundle, *([schema] if schema else []))
    caged = Caged("nestseg.bundle.checks", Grants(read=paths), longest_s=_LONGEST_S)
    found: list[Finding] = []
    try:
        caged.send({"bundle": str(bundle), "schema": str(schema) if schema else None})
        for _ in ("review", "checks"):  # the review is here before any code of the bundle runs
            found += [_finding(one) for one in caged.ask()["findings"][:_MOST_FINDINGS]]
    except _BROKEN as error:
        problem = f"cannot be checked: {cage.printable(str(error), 200)}"
        return [*found, Finding(".", "", problem, "look at its code before you run it")]
    finally:
        caged.close()
    return found + running.segments(bundle)


def _finding(texts: list[str]) -> Finding:
    """A finding from a cage; its texts are foreign."""
    file, place, problem, remedy, severity = (cage.printable(str(text), 500) for text in texts)
    known = severity if severity in set(Severity) else Severity.ERROR
    return Finding(file, place, problem, remedy, Severity(known))


def run(bundle: Path, schema: Path | None = None) -> list[Finding]:
    """Every check but that of :func:`running.segments`, in this process.

    Args:
        bundle: its folder; nothing is written into it.
        schema: MONAI's JSON schema of the metadata, which nestseg does not carry.
    """
    ours = (bundle / RECIPE).is_file()
    found = _rules(bundle, validate=ours)
    if not ours:
        found = [replace(one, severity=Severity.NOTE) for one in found]
    described = metadata.read(bundle)
    if schema is not None and described is not None:
        found += metadata.check_schema(described, schema)
    return list(dict.fromkeys(found))


def _rules(bundle: Path, *, validate: bool) -> list[Finding]:
    found = layout.check(bundle)
    described = metadata.read(bundle)
    if described is None:
        return found
    found += metadata.check(described)
    with tempfile.TemporaryDirectory(prefix="nestseg-") as scratch:
        copy = Path(shutil.copytree(bundle, Path(scratch) / bundle.name))
        make_importable(copy)
        built = workflow.check(copy, Path(scratch))
        found += built
        found += network.check(copy, described)
        if validate and not built:
            found += running.validates(copy, Path(scratch))
    found += language.check(bundle)
    found += preprocessing.check(bundle)
    found += label.check(bundle, described)
    return found
