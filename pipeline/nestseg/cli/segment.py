"""``nestseg segment``: folders in, masks on the source voxels out."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nestseg.batch.engines import Engine
from nestseg.batch.stops import ExitCode, StopError
from nestseg.bundle import locate
from nestseg.bundle.selection import read_selection
from nestseg.cli import bundles, signals, tables
from nestseg.cli.scan import check_exist
from nestseg_prep.dicom.rules import SAFE, Rules
from nestseg_prep.errors import InputError
from nestseg_prep.site_key import mark_folder

if TYPE_CHECKING:
    from nestseg.batch.pool import Pool
    from nestseg.batch.session import Ending
    from nestseg.cli.network import Pacs
    from nestseg.outputs.dicom.encoding import Encoding
    from nestseg_prep.selection import Selection


@dataclass(frozen=True)
class Manner:
    """How a run goes about its work; none of it changes results.

    Attributes:
        workers: processes; 0 for none but this one, ``None`` for one, or with Ray for as many
            actors as the cluster holds.
        device: see ``nestseg.batch.jobs.Settings``.
        timeout_s: for a case.
        memory_mb: for a case.
        retry: try quarantined cases again.
        shard: ``(3, 8)`` for the third of eight parts of the cases.
        log_json: say everything in JSON.
        show_phi: name the files of cases.
        engine: what runs the cases.
        ray_address: of a Ray cluster; ``None`` starts one here.
    """

    workers: int | None = None
    device: str | None = None
    timeout_s: float | None = None
    memory_mb: int | None = None
    retry: bool = False
    shard: tuple[int, int] | None = None
    log_json: bool = False
    show_phi: bool = False
    engine: Engine = Engine.LOCAL
    ray_address: str | None = None

    def check(self) -> None:
        """Raise an InputError where it contradicts itself."""
        if self.workers == 0 and self.engine is Engine.RAY:
            raise InputError("--engine ray needs a worker; give --workers 1 or more, or leave it")
        if self.workers == 0 and (self.timeout_s is not None or self.memory_mb is not None):
            raise InputError("--timeout and --max-memory need a worker; give --workers 1 or more")


def run(
    paths: list[Path],
    bundle_name: str,
    out: Path,
    *,
    trust: bool = False,
    dicom: Encoding | None = None,
    selection: Selection | None = None,
    rules: Rules = SAFE,
    manner: Manner | None = None,
) -> int:
    """Segment every fitting series below ``paths`` that is not yet done.

    Args:
        paths: folders or files.
        bundle_name: of one of nestseg's, or the folder of another.
        out: folder for the results.
        trust: whether to run a bundle from elsewhere that the static audit refuses.
        dicom: how to write DICOM SEG, with SR; ``None`` for neither.
        selection: which series, instead of the bundle's own rules.
        rules: what is refused.
        manner: how.

    Returns:
        See :class:`nestseg.batch.stops.ExitCode`.

    Raises:
        InputError: nothing could be started: no such input, bundle or weights, the audit refuses
            the bundle, nothing fits, or ``out`` cannot be written.
    """
    manner = manner or Manner()
    manner.check()
    folder = bundles.find(bundle_name)
    if not locate.is_ours(folder) and not trust:
        _refuse_unlisted(folder)
    selection = selection or read_selection(folder)
    check_exist(paths)
    with ExitStack() as stack:
        stack.enter_context(signals.private())
        _check_writable(out, paths)
        stop = stack.enter_context(signals.stopping())
        try:
            ending = _run(paths, folder, out, selection, rules, dicom, manner, stop)
        except StopError as error:
            line = f"nestseg: {out}: {error}"
            tables.stderr.print(line, soft_wrap=True, markup=False, highlight=False)
            return error.code
    return _report(ending, paths[0], out, stop, dicom=dicom is not None)


def _run(
    paths: list[Path],
    folder: Path,
    out: Path,
    selection: Selection,
    rules: Rules,
    dicom: Encoding | None,
    manner: Manner,
    stop: signals.Stop,
) -> Ending:
    from nestseg.batch import digests, session
    from nestseg.batch.discovery import Inputs
    from nestseg.batch.jobs import Settings
    from nestseg.cli import progress

    settings = Settings(folder, dicom=dicom, device=manner.device)
    options: dict[str, Any] = {"dicom": dicom and dicom.value}
    order = session.Order(
        out,
        Inputs(paths, selection, rules),
        digests.settings_digest([folder], rules, options),
        options,
        manner.shard,
        retry=manner.retry,
    )
    with progress.listener(as_json=manner.log_json, show_phi=manner.show_phi) as tell:
        return session.run(order, _pool_maker(settings, manner), tell, stop=stop)


def _pool_maker(settings: Any, manner: Manner) -> Callable[[], Pool]:
    """What makes the workers, or what stands for them; torch is imported only then."""

    def make() -> Pool:
        if manner.workers == 0:
            from nestseg.batch.in_process import InProcessPool

            return InProcessPool(settings)
        from nestseg.batch.jobs import Limits

        limits = Limits(manner.memory_mb, manner.timeout_s)
        if manner.engine is Engine.RAY:
            from nestseg.batch.ray_pool import RayPool

            return RayPool(settings, limits, manner.workers or 0, manner.ray_address)
        from nestseg.batch.local import LocalPool

        return LocalPool(settings, limits, manner.workers or 1)

    return make


def run_with_pacs(
    paths: list[Path],
    bundle_name: str,
    out: Path,
    selection: Selection,
    pacs: Pacs,
    **options: Any,
) -> int:
    """Segment what lies below ``paths`` or is fetched, and send the results.

    Args:
        paths: folders or files; none where series are fetched.
        bundle_name: with what.
        out: made if missing.
        selection: which series.
        pacs: where series come from and results go.
        options: as for :func:`run`.

    Returns:
        As :func:`run`; 1 also if a result was not stored.

    Raises:
        InputError: as :func:`run`, or a server does not answer.
    """
    if bool(paths) == bool(pacs.source):
        raise InputError("give folders or files, or --from with an address")
    from nestseg.cli import network

    address = network.check_address(pacs.send_to)
    if pacs.source:
        with network.fetched(pacs.source, out, selection.modalities) as folder:
            code = run([folder], bundle_name, out, selection=selection, **options)
    else:
        code = run(paths, bundle_name, out, selection=selection, **options)
    if code not in (ExitCode.ALL_DONE, ExitCode.SOME_FAILED):
        return code
    if pacs.deidentify:
        from nestseg.cli.deidentify import results

        results(out)
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
        tables.console.print(f"{files} NIfTI files have no DICOM source: no SEG and SR for them")
    done = sum(row.state is State.DONE for row in cases)
    tables.console.print(
        f"{done} of {len(cases)} cases done; masks and previews in {out}, "
        f"record in {out / FILE_NAME}, {_page(out)}"
    )
    if not ending.finished:
        return 128 + stop.number
    return ExitCode.ALL_DONE if done == len(cases) else ExitCode.SOME_FAILED


def _page(out: Path) -> str:
    """Write the report; without one, every result is there all the same."""
    from nestseg import report

    try:
        return f"report in {report.write(out)}"
    except OSError as error:
        return f"no report ({error.strerror}): `nestseg report {out}` writes it again"


def _refuse_unlisted(bundle: Path) -> None:
    """Raise an InputError if the static audit finds anything in a bundle from elsewhere."""
    from nestseg.bundle import audit, findings, manifest

    found = findings.errors(manifest.check(bundle, demanded=False) + audit.audit(bundle))
    if found:
        more = f" (and {len(found) - 1} more: `nestseg bundle check`)" if len(found) > 1 else ""
        raise InputError(f"{bundle.name}: {found[0].line}{more}; --trust runs it all the same")


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


def _nothing_fits(first: Path, ending: Ending) -> str:
    from nestseg.cli import summary

    if not ending.files:
        return f"{first}: an empty folder; give one with DICOM or NIfTI files"
    others = ending.view.header.other_files
    reasons = sorted({row.reason for row in summary.skipped_of(ending.view)})
    counted = ", ".join(f"{count} {code}" for code, count in others.items())
    why = "; ".join(reasons[:3] or [f"files: {counted}"])
    return f"{first}: no series that fits the bundle ({why}); `nestseg scan` lists what is there"
