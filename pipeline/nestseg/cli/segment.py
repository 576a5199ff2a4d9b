"""``nestseg segment``: folders in, masks on the source voxels out."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from nestseg.bundle import locate
from nestseg.bundle.selection import read_selection
from nestseg.cli import bundles, tables
from nestseg.cli.scan import check_exist, scan_with_progress
from nestseg_prep.dicom.rules import SAFE, Rules
from nestseg_prep.errors import InputError
from nestseg_prep.site_key import mark_folder

if TYPE_CHECKING:
    from rich.table import Table

    from nestseg.batch.cases import Skipped
    from nestseg.batch.runner import Result
    from nestseg.cli.network import Pacs
    from nestseg.outputs.dicom.encoding import Encoding
    from nestseg_prep.dicom.references import OtherFile, ScanResult
    from nestseg_prep.selection import Selection

ALL_DONE = 0
SOME_FAILED = 1


def run(
    paths: list[Path],
    bundle_name: str,
    out: Path,
    *,
    trust: bool = False,
    dicom: Encoding | None = None,
    selection: Selection | None = None,
    rules: Rules = SAFE,
) -> int:
    """Segment every fitting series below ``paths``.

    Args:
        paths: folders or files.
        bundle_name: of one of nestseg's, or the folder of another.
        out: folder for the results.
        trust: whether to run a bundle from elsewhere that the static audit refuses.
        dicom: how to write DICOM SEG, with SR; ``None`` for neither.
        selection: which series, instead of the bundle's own rules.
        rules: what is refused.

    Returns:
        0 if every fitting case was done, else 1.

    Raises:
        InputError: nothing could be started: no such input, bundle or weights, the audit refuses
            the bundle, nothing fits, or ``out`` cannot be written.
    """
    folder = bundles.find(bundle_name)
    if not locate.is_ours(folder) and not trust:
        _refuse_unlisted(folder)
    selection = selection or read_selection(folder)
    check_exist(paths)
    _check_writable(out, paths)
    with tempfile.TemporaryDirectory(dir=out, prefix=".nestseg-unpacked-") as unpacked:
        found = scan_with_progress(paths, Path(unpacked), rules, pictures=selection.pictures)
        return _segment(paths[0], found, folder, out, selection, dicom)


def _segment(
    first: Path,
    found: ScanResult,
    folder: Path,
    out: Path,
    selection: Selection,
    dicom: Encoding | None,
) -> int:
    """Segment what a scan of ``first`` and other paths found, with the bundle in ``folder``."""
    with tables.stderr.status("Loading the model …"):
        from nestseg.batch import cases as batch_cases
        from nestseg.batch import record, runner
        from nestseg.bundle import loaded

        cases, skipped = batch_cases.choose(found.series, selection)
        if not cases:
            raise InputError(_nothing_fits(first, skipped, found.others))
        bundle = loaded.load(folder)
    with tables.progress() as bar:
        task = bar.add_task("Segmenting", total=len(cases))
        results = runner.run(cases, bundle, out, dicom=dicom, on_result=lambda _: bar.advance(task))
    path = record.write_record(out, bundle, results, skipped, found.others)
    _report(results, skipped, list(bundle.labels.values()))
    if found.others:
        tables.console.print(f"Files that are no series: {tables.counted(found.others)}")
    for result in results:
        if not result.done:
            line = f"nestseg: {result.case.name}: {result.error}"
            tables.stderr.print(line, soft_wrap=True, markup=False, highlight=False)
    if dicom and (files := sum(result.case.ref.kind == "nifti" for result in results)):
        tables.console.print(f"{files} NIfTI files have no DICOM source: no SEG and SR for them")
    done = sum(result.done for result in results)
    tables.console.print(
        f"{done} of {len(results)} cases done; masks and previews in {out}, record in {path}"
    )
    return ALL_DONE if done == len(results) else SOME_FAILED


def run_with_pacs(
    paths: list[Path],
    bundle_name: str,
    out: Path,
    selection: Selection,
    pacs: Pacs,
    *,
    trust: bool,
    dicom: Encoding | None = None,
    rules: Rules = SAFE,
) -> int:
    """Segment what lies below ``paths`` or is fetched, and send the results.

    Args:
        paths: folders or files; none where series are fetched.
        bundle_name: with what.
        out: made if missing.
        selection: which series.
        pacs: where series come from and results go.
        trust: as for :func:`run`.
        dicom: likewise.
        rules: likewise.

    Returns:
        0 if every fitting case was done and every result stored, else 1.

    Raises:
        InputError: as :func:`run`, or a server does not answer.
    """
    if bool(paths) == bool(pacs.source):
        raise InputError("give folders or files, or --from with an address")
    from nestseg.cli import network

    address = network.check_address(pacs.send_to)
    if pacs.source:
        with network.fetched(pacs.source, out, selection.modalities) as folder:
            paths = [folder]
            code = run(
                paths, bundle_name, out, trust=trust, dicom=dicom, selection=selection, rules=rules
            )
    else:
        code = run(
            paths, bundle_name, out, trust=trust, dicom=dicom, selection=selection, rules=rules
        )
    if pacs.deidentify:
        from nestseg.cli.deidentify import results

        results(out)
    if address:
        code = max(code, network.send_folder([out], address, patient=True))
    return code


def _refuse_unlisted(bundle: Path) -> None:
    """Raise an InputError if the static audit finds anything in a bundle from elsewhere."""
    from nestseg.bundle import audit, findings, manifest

    found = findings.errors(manifest.check(bundle, demanded=False) + audit.audit(bundle))
    if found:
        more = f" (and {len(found) - 1} more: `nestseg bundle check`)" if len(found) > 1 else ""
        raise InputError(f"{bundle.name}: {found[0].line}{more}; --trust runs it all the same")


def _report(results: list[Result], skipped: list[Skipped], labels: list[str]) -> None:
    columns = [f"{label} ml" for label in labels]
    rows = tables.table("Cases", "case", "modality", "shape voxels", *columns, "s", "outcome")
    for result in results:
        sizes = [f"{result.volumes_ml[label]:.2f}" if result.done else "–" for label in labels]
        rows.add_row(
            result.case.name,
            tables.modality(result.case.ref),
            tables.by(result.case.ref.shape),
            *sizes,
            f"{result.seconds:.1f}",
            "[green]done[/]" if result.done else f"[red]failed[/]: {escape(result.error)}",
        )
    tables.console.print(rows)
    if skipped:
        tables.console.print(_skipped_table(skipped))


def _skipped_table(skipped: list[Skipped]) -> Table:
    """Series that were not segmented, by reason; ``run.json`` has them one by one."""
    rows = tables.table("Not segmented", "series", "modality", "why")
    reasons = Counter((item.refused, tables.modality(item.ref), item.reason) for item in skipped)
    for (refused, modality, reason), count in sorted(reasons.items()):
        why = f"[yellow]{'refused' if refused else 'does not fit'}[/]: {reason}"
        rows.add_row(str(count), modality, why)
    return rows


def _check_writable(out: Path, inputs: list[Path]) -> None:
    resolved = out.resolve()
    if any(resolved.is_relative_to(path.resolve()) for path in inputs if path.is_dir()):
        raise InputError(f"{out}: lies inside the input; give a folder outside of it")
    try:
        out.mkdir(parents=True, exist_ok=True)
        handle, probe = tempfile.mkstemp(dir=out, prefix=".nestseg-")
        os.close(handle)
        Path(probe).unlink()
        mark_folder(out)
    except OSError as error:
        raise InputError(
            f"{out}: cannot be written ({error.strerror}); choose another --out"
        ) from error


def _nothing_fits(first: Path, skipped: list[Skipped], others: tuple[OtherFile, ...]) -> str:
    reasons = sorted({item.reason for item in skipped}) or [f"files: {tables.counted(others)}"]
    why = "; ".join(reasons[:3])
    return f"{first}: no series that fits the bundle ({why}); `nestseg scan` lists what is there"
