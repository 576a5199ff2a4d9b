"""``nestseg scan``: what is in a folder. Never imports torch or monai."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from pathlib import Path

from rich.markup import escape

from nestseg.cli import tables
from nestseg_prep.dicom.references import ScanResult, SeriesRef
from nestseg_prep.dicom.rules import SAFE, Rules
from nestseg_prep.dicom.scan import scan
from nestseg_prep.errors import InputError
from nestseg_prep.selection import Selection

_STUDY_DIGITS = 6


def run(
    folder: Path,
    rules: Rules,
    *,
    as_json: bool,
    show_phi: bool,
    selection: Selection | None = None,
) -> int:
    """Print the series of a folder.

    Args:
        folder: where they lie.
        rules: what is refused.
        as_json: print JSON instead of a table.
        show_phi: also show what may lead to a patient.
        selection: rules to explain: which series they take, and why not the others.

    Returns:
        0, or 1 if a folder could not be read, so that series may be missing.

    Raises:
        InputError: there is no such folder, or there is nothing in it.
    """
    with tempfile.TemporaryDirectory(prefix="nestseg-") as unpacked:
        pictures = bool(selection and selection.pictures)
        found = scan_with_progress([folder], Path(unpacked), rules, pictures=pictures)
    _print(found, selection, as_json=as_json, show_phi=show_phi)
    tables.say_unseen(found.unseen, show_phi=show_phi)
    return 1 if found.unseen else 0


def _print(
    found: ScanResult, selection: Selection | None, *, as_json: bool, show_phi: bool
) -> None:
    if selection is not None:
        from nestseg.cli import choice

        decisions = selection.decide(found.series)
        if as_json:
            report = choice.to_json(found, decisions, show_phi=show_phi)
            tables.console.print_json(json.dumps(report))
        else:
            tables.console.print(choice.table(decisions, show_phi=show_phi))
            taken = sum(one.taken for one in decisions)
            tables.console.print(f"{taken} of {len(decisions)} series taken")
            if selection.origin:
                tables.console.print(escape(selection.origin), soft_wrap=True)
        return
    if as_json:
        tables.console.print_json(json.dumps(found.to_json(show_phi=show_phi)))
        return
    parts = any(ref.part for ref in found.series)
    rows = tables.table(
        f"{len(found.series)} series in {_studies(found)}",
        *("study", "series", "modality", "plane", "shape voxels", "spacing mm"),
        *(("part",) if parts else ()),
        "verdict",
        *(("paths",) if show_phi else ()),
    )
    for ref in sorted(found.series, key=lambda ref: (ref.study_key, ref.kind, ref.key)):
        rows.add_row(
            ref.study_key[:_STUDY_DIGITS] or "–",
            ref.key,
            tables.modality(ref),
            *tables.geometry(ref),
            *([escape(ref.part)] if parts else []),
            verdict(ref),
            *([escape(str(ref.files[0]))] if show_phi else []),
        )
    tables.console.print(rows)
    if found.others:
        tables.console.print(f"Files skipped: {tables.counted(found.others)}")


def scan_with_progress(
    paths: list[Path], unpack_to: Path, rules: Rules = SAFE, *, pictures: bool = False
) -> ScanResult:
    """Scan with a counter on the terminal.

    Args:
        paths: folders or files.
        unpack_to: where the files of archives stay while they are read.
        rules: what is refused.
        pictures: take pictures as images.

    Raises:
        InputError: a path does not exist, or there is no file below any.
    """
    check_exist(paths)
    with tables.stderr.status("Reading headers …") as status:
        found = scan(
            paths,
            on_file=lambda count: status.update(f"Reading headers … {count} files"),
            rules=rules,
            unpack_to=unpack_to,
            pictures=pictures,
        )
    if not found.series and not found.others:
        raise InputError(f"{paths[0]}: an empty folder; give one with DICOM or NIfTI files")
    return found


def check_exist(paths: list[Path]) -> None:
    """Raise an InputError for the first path that is not there."""
    for path in paths:
        with suppress(OSError):  # it is there, but cannot be read: the walk says so
            if not path.exists():
                raise InputError(f"{path}: no such file or folder; check the path")


def verdict(ref: SeriesRef) -> str:
    """Accepted, with what is worth knowing, or refused and why."""
    if ref.refusal is None:
        notes = ", ".join(str(finding.code) for finding in ref.findings)
        return f"[green]accepted[/] {notes}".rstrip()
    detail = f" ({ref.refusal.detail})" if ref.refusal.detail else ""
    return f"[red]{ref.refusal.code}[/]: {ref.refusal.sentence}{detail}"


def _studies(found: ScanResult) -> str:
    count = len({ref.study_key for ref in found.series if ref.study_key})
    return f"{count} {'study' if count == 1 else 'studies'}"
