"""``nestseg segment``: folders in, masks on the source voxels out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nestseg.batch.manner import Manner
from nestseg.batch.stops import ExitCode, StopError
from nestseg.bundle import trust as trusted
from nestseg.bundle.info import read_info
from nestseg.bundle.options import SegmentOptions
from nestseg.cli import bundles, signals, tables
from nestseg.cli.scan import check_exist
from nestseg_prep.dicom.rules import SAFE, Rules
from nestseg_prep.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nestseg.batch.jobs import Settings
    from nestseg.batch.session import Ending
    from nestseg.cli.network import Pacs
    from nestseg.outputs.dicom.encoding import Encoding
    from nestseg.pruning.choice import Rule
    from nestseg_prep.selection import Selection


def run(  # noqa: PLR0913  what the command line says
    paths: list[Path],
    bundle_name: str,
    out: Path,
    *,
    trust: bool = False,
    dicom: Encoding | None = None,
    rtstruct: bool = False,
    selection: Selection | None = None,
    rules: Rules = SAFE,
    options: SegmentOptions | None = None,
    budget: Rule | None = None,
    manner: Manner | None = None,
) -> int:
    """Segment every fitting series below ``paths`` that is not yet done.

    Args:
        paths: folders or files.
        bundle_name: of one of nestseg's, or the folder of another.
        out: folder for the results.
        trust: whether to trust the code of bundles from elsewhere from now on.
        dicom: how to write DICOM SEG, with SR; ``None`` for neither.
        rtstruct: whether to write RTSTRUCT beside them.
        selection: which series, instead of the bundle's own rules.
        rules: what is refused.
        options: what is computed besides the mask, and how.
        budget: of a case, where the level is to be chosen.
        manner: how the run goes about it.

    Returns:
        See :class:`nestseg.batch.stops.ExitCode`.

    Raises:
        InputError: nothing could be started: no such input, bundle or weights, the bundle cannot
            be caged, or nothing fits.
        OutputError: ``out`` cannot be written.
    """
    from nestseg.api import run_folder
    from nestseg.batch.discovery import Inputs
    from nestseg.cli import progress

    manner = manner or Manner()
    manner.check()
    folder = bundles.find(bundle_name, trust=trust)
    options = options or SegmentOptions()
    for one in options.ensemble:
        trusted.check_manifest(one)
        bundles.admit(one, trust=trust)
    selection = selection or read_info(folder).selection
    check_exist(paths)
    with signals.stopping() as stop:
        try:
            settings = _settings(folder, dicom, options, budget, manner, rtstruct=rtstruct)
            inputs = Inputs(paths, selection, rules)
            with progress.listener(as_json=manner.log_json, show_phi=manner.show_phi) as tell:
                ending = run_folder(inputs, settings, out, manner, tell=tell, stop=stop)
        except StopError as error:
            progress.say_end(f"{out}: {error}", error.code, as_json=manner.log_json)
            return error.code
    progress.say_unseen(ending.unseen, as_json=manner.log_json, show_phi=manner.show_phi)
    return _report(ending, paths[0], out, stop, dicom=dicom is not None)


def _settings(
    folder: Path,
    dicom: Encoding | None,
    options: SegmentOptions,
    budget: Rule | None,
    manner: Manner,
    *,
    rtstruct: bool,
) -> Settings:
    """What the cases share; what it costs is said before they begin."""
    from nestseg.batch.jobs import Settings
    from nestseg.bundle.passes import cost
    from nestseg.pruning.level import resolved

    options, level = resolved(folder, options, budget)
    price = cost(options, folder)
    for sentence in (level, price.sentence):
        if sentence and not manner.log_json:
            tables.stderr.print(sentence, soft_wrap=True, markup=False, highlight=False)
    return Settings(folder, dicom, manner.device, options, rtstruct=rtstruct)


def run_with_pacs(
    paths: list[Path],
    segment: Callable[[list[Path]], int],
    out: Path,
    modalities: Sequence[str] | None,
    pacs: Pacs,
    manner: Manner,
) -> int:
    """Segment what lies below ``paths`` or is fetched, and send the results.

    Args:
        paths: folders or files; none where series are fetched.
        segment: segments what lies below paths; as :func:`run`.
        out: made if missing.
        modalities: of what is fetched; ``None`` for all.
        pacs: where series come from and results go.
        manner: as for a run.

    Returns:
        As :func:`run`; 1 also if a result was not stored.

    Raises:
        InputError: as :func:`run`, or a server does not answer.
    """
    if bool(paths) == bool(pacs.source):
        raise InputError("give folders or files, or --from with an address")
    from nestseg.cli import network, progress

    address = network.check_address(pacs.send_to, pacs.tls)
    if pacs.source:
        with network.fetched(pacs.source, out, modalities, pacs.tls) as folder:
            code = segment([folder])
    else:
        code = segment(paths)
    if code not in (ExitCode.ALL_DONE, ExitCode.SOME_FAILED):
        return code
    if pacs.deidentify:
        from nestseg.batch.read import runs_in
        from nestseg.batch.session import restamp
        from nestseg.cli.deidentify import results

        try:
            for folder in runs_in(out) or [out]:
                results(folder)
                restamp(folder, manner.shard)
        except StopError as error:
            progress.say_end(f"{out}: {error}", error.code, as_json=manner.log_json)
            return error.code
    if address:
        code = max(code, network.send_folder([out], address, patient=True))
    return code


def _report(ending: Ending, first: Path, out: Path, stop: signals.Stop, *, dicom: bool) -> int:
    from nestseg.batch.record import FILE_NAME
    from nestseg.batch.states import State
    from nestseg.cli import summary

    if ending.finished and not ending.fitting:
        raise InputError(_nothing_fits(first, ending))
    summary.show(ending.view)
    cases = summary.cases_of(ending.view)
    if dicom and (files := sum(row.kind == "nifti" for row in cases)):
        tables.console.print(f"{files} files have no DICOM source: no SEG and SR for them")
    if ending.kept:
        tables.console.print(f"{ending.kept} cases were done before and are unchanged")
    done = sum(row.state is State.DONE for row in cases)
    tables.console.print(
        f"{done} of {len(cases)} cases done; masks and previews in {out}, "
        f"record in {out / FILE_NAME}, {write_report(out)}"
    )
    if not ending.finished:
        return 128 + stop.number
    complete = done == len(cases) and not ending.unseen
    return ExitCode.ALL_DONE if complete else ExitCode.SOME_FAILED


def write_report(out: Path) -> str:
    """Write the report; without one, every result is there all the same."""
    from nestseg import report

    try:
        return f"report in {report.write(out)}"
    except OSError as error:
        return f"no report ({error.strerror}): `nestseg report {out}` writes it again"


def _nothing_fits(first: Path, ending: Ending) -> str:
    from nestseg.cli import summary

    if not ending.files:
        return f"{first}: an empty folder; give one with DICOM or NIfTI files"
    others = ending.view.header.other_files
    reasons = sorted({row.reason for row in summary.skipped_of(ending.view)})
    counted = ", ".join(f"{count} {code}" for code, count in others.items())
    why = "; ".join(reasons[:3] or [f"files: {counted}"])
    return f"{first}: no series that fits the bundle ({why}); `nestseg scan` lists what is there"
