"""The command line: what each command takes. What it does is in the module of its name.

Modules are imported inside the commands, so that ``--help`` and ``scan`` stay free of torch.
"""

from __future__ import annotations

import inspect
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from nestseg.batch.engines import Engine
from nestseg.bundle import trace
from nestseg.bundle.options import Tta
from nestseg.cli import bundle as bundle_commands
from nestseg.outputs.dicom.encoding import Encoding
from nestseg.runtime.choices import Precision, Runtime
from nestseg_prep.dicom.rules import Rules
from nestseg_prep.errors import NestsegError

app = typer.Typer(
    no_args_is_help=True,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(bundle_commands.app, name="bundle")

Folder = Annotated[Path, typer.Argument(help="Folder with DICOM and NIfTI files, at any depth.")]
Paths = Annotated[list[Path], typer.Argument(help="Folders or files, DICOM or NIfTI.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results; made if missing.")]
Bundle = Annotated[
    str,
    typer.Option(
        "--bundle",
        "-b",
        help="Name of a bundle of nestseg, or a bundle folder. Default: for each series, every "
        "bundle of nestseg that fits it.",
    ),
]
_ADDRESSES = (
    "dicom://AET@host:port, dicoms://AET@host:port (TLS), dicomweb://host:port/path or "
    "https://host/path"
)
SendTo = Annotated[
    str, typer.Option("--send-to", help=f"Write DICOM results too and send them: {_ADDRESSES}.")
]
Certificate = Annotated[Path | None, typer.Option(help="Our TLS certificate, a PEM file.")]
Key = Annotated[Path | None, typer.Option(help="Its key, a PEM file without a passphrase.")]
Ca = Annotated[
    Path | None,
    typer.Option(help="PEM file of the authorities that sign certificates of the other side."),
]
Trust = Annotated[
    bool, typer.Option("--trust", help="Trust this bundle's code from now on: run it uncaged.")
]
Select = Annotated[
    Path | None,
    typer.Option("--select", help="YAML file with rules that replace the bundle's."),
]
OnePerStudy = Annotated[
    bool,
    typer.Option(
        "--one-per-study",
        help="Of each study, take only the series with the thinnest slices, most slices, newest.",
    ),
]
FillMissing = Annotated[
    bool,
    typer.Option(
        "--fill-missing",
        help="Interpolate up to three missing slices in a row instead of refusing the series.",
    ),
]
MinSlices = Annotated[
    int, typer.Option("--min-slices", min=1, help="Fewest slices of a series that is taken.")
]
Regroup = Annotated[
    bool,
    typer.Option(
        "--regroup",
        help="Take slices that have a SeriesInstanceUID each for one series if they look like one.",
    ),
]
ShowPhi = Annotated[
    bool, typer.Option("--show-phi", help="Also show paths, UIDs and descriptions (patient data).")
]


@app.callback()
def version(
    *,
    show: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    """From a folder of CT/MRI studies to segmentations on the source voxels."""
    if show:
        from nestseg import __version__

        typer.echo(f"nestseg {__version__}")
        raise typer.Exit


@app.command()
def scan(  # noqa: PLR0913  one for each option
    folder: Folder,
    *,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    show_phi: ShowPhi = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say rule by rule which series are taken.")
    ] = False,
    bundle: Annotated[
        str | None, typer.Option("--bundle", "-b", help="Explain what this bundle takes.")
    ] = None,
    select: Select = None,
    one_per_study: OnePerStudy = False,
    fill_missing: FillMissing = False,
    min_slices: MinSlices = 3,
    regroup: Regroup = False,
) -> None:
    """Say what is in a folder: studies, series, geometry; accepted or refused, and why."""
    from nestseg.cli.scan import run

    selection = None
    if explain or bundle or select or one_per_study:
        from nestseg.cli.choice import selection as chosen

        selection = chosen(bundle, select, one_per_study=one_per_study)
    rules = Rules(fill_missing, min_slices, regroup)
    raise typer.Exit(run(folder, rules, as_json=json, show_phi=show_phi, selection=selection))


@app.command()
def prepare(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder with DICOM and NIfTI files, at any depth; with --bundle, a data set."
        ),
    ],
    out: Out,
    *,
    bundle: Annotated[
        str | None,
        typer.Option("--bundle", "-b", help="Make the training set of this bundle's recipe."),
    ] = None,
    fill_missing: FillMissing = False,
    min_slices: MinSlices = 3,
    regroup: Regroup = False,
) -> None:
    """Write every accepted series as NIfTI, or the training set that a bundle asks for."""
    if bundle is None:
        from nestseg.cli.prepare import run

        raise typer.Exit(run(folder, out, Rules(fill_missing, min_slices, regroup)))
    from nestseg.cli.prepare_training import run as run_training

    raise typer.Exit(run_training(folder, bundle, out))


@app.command()
def segment(  # noqa: PLR0913  one for each option
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Folders or files, DICOM or NIfTI.")
    ] = None,
    *,
    out: Out,
    bundle: Bundle = "",
    only: Annotated[
        str, typer.Option(help="Without --bundle: comma-separated parts of bundles' names.")
    ] = "",
    select: Select = None,
    one_per_study: OnePerStudy = False,
    fill_missing: FillMissing = False,
    min_slices: MinSlices = 3,
    regroup: Regroup = False,
    source: Annotated[
        str, typer.Option("--from", help="Fetch series from dicomweb://host:port/path or https://")
    ] = "",
    study: Annotated[str, typer.Option(help="With --from: StudyInstanceUID.")] = "",
    series: Annotated[str, typer.Option(help="With --from: SeriesInstanceUID.")] = "",
    match: Annotated[
        list[str] | None, typer.Option(help="With --from: StudyDate=20260301-, and so on.")
    ] = None,
    deidentify: Annotated[
        bool, typer.Option("--deidentify", help="DICOM results without what names their patient.")
    ] = False,
    dicom: Annotated[
        bool,
        typer.Option("--dicom", help="Beside NIfTI, write DICOM SEG and SR for DICOM series."),
    ] = False,
    rtstruct: Annotated[
        bool,
        typer.Option("--rtstruct", help="As --dicom, and contours for radiotherapy (RTSTRUCT)."),
    ] = False,
    seg_type: Annotated[
        Encoding, typer.Option(help="With --dicom: bits for every reader, or a small label map.")
    ] = Encoding.BINARY,
    send_to: SendTo = "",
    certificate: Certificate = None,
    key: Key = None,
    ca: Ca = None,
    trust: Trust = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes that segment, 1 by default; 0 for none but this one. With Ray the most "
            "actors, by default as many as the cluster holds.",
        ),
    ] = None,
    engine: Annotated[
        Engine, typer.Option(help="What runs the cases: processes here, or Ray's on many machines.")
    ] = Engine.LOCAL,
    ray_address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster; without it one is started here.")
    ] = None,
    tta: Annotated[
        Tta, typer.Option(help="Average over mirrored copies of each tile; takes far longer.")
    ] = "none",
    level: Annotated[
        str | None, typer.Option(help="Compute a UNet++ up to head L1, L2 …, or auto.")
    ] = None,
    budget_ms: Annotated[
        float | None,
        typer.Option(help="With --level auto: the most accurate that takes so long a case."),
    ] = None,
    budget_mb: Annotated[
        float | None, typer.Option(help="With --level auto: likewise of memory, in MB.")
    ] = None,
    ensemble: Annotated[
        str, typer.Option(help="Names or folders of further bundles to average with, by commas.")
    ] = "",
    save_probabilities: Annotated[
        bool, typer.Option("--save-probabilities", help="Also write each label's probability.")
    ] = False,
    save_uncertainty: Annotated[
        bool, typer.Option("--save-uncertainty", help="Also write where heads disagree.")
    ] = False,
    precision: Annotated[
        Precision,
        typer.Option(help="Numbers to compute in; bf16 and int8 are faster and change few voxels."),
    ] = "fp32",
    runtime: Annotated[
        Runtime, typer.Option(help="Library that computes; auto measures those that are there.")
    ] = "auto",
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, or cuda:0,2 for one worker on each of these.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds that a case may take.")
    ] = None,
    max_memory: Annotated[
        str | None, typer.Option(help="Memory of a worker, as 6GB or 800MB.")
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Also try cases again that failed too often.")
    ] = False,
    shard: Annotated[
        str | None, typer.Option(help="i/n: only the i-th of n parts of the cases.")
    ] = None,
    log_json: Annotated[
        bool, typer.Option("--log-json", help="Say what happens as JSON lines on stderr.")
    ] = False,
    show_phi: Annotated[
        bool, typer.Option("--show-phi", help="Name files in these lines (patient data).")
    ] = False,
) -> None:
    """Segment every series by the bundles that fit it; masks lie on the source voxels.

    The same command goes on where it was stopped, and does nothing twice.
    """
    from nestseg.batch.manner import Manner
    from nestseg.cli import amounts
    from nestseg.cli.choice import selection as chosen
    from nestseg.cli.network import Pacs, Source
    from nestseg.cli.segment import run as run_one
    from nestseg.cli.segment import run_with_pacs
    from nestseg.cli.segment_all import run as run_all
    from nestseg.pacs.tls import Tls

    options = amounts.options(tta, level, ensemble)
    options = replace(
        options,
        save_probabilities=save_probabilities,
        save_uncertainty=save_uncertainty,
        precision=precision,
        runtime=runtime,
    )
    manner = Manner(
        workers,
        device,
        timeout,
        amounts.megabytes(max_memory),
        retry=retry,
        shard=amounts.shard(shard),
        log_json=log_json,
        show_phi=show_phi,
        engine=engine,
        ray_address=ray_address,
    )
    common: dict[str, Any] = {
        "trust": trust,
        "dicom": seg_type if dicom or rtstruct or send_to else None,  # what is sent is DICOM
        "rtstruct": rtstruct,
        "rules": Rules(fill_missing, min_slices, regroup),
        "options": options,
        "budget": amounts.budget(budget_ms, budget_mb),
        "manner": manner,
    }
    modalities = None
    amounts.check_bundle(bundle, only, select, ensemble)
    if bundle:
        selection = chosen(bundle, select, one_per_study=one_per_study)
        modalities = selection.modalities
        run = partial(run_one, bundle_name=bundle, out=out, selection=selection, **common)
    else:
        run = partial(run_all, out=out, only=only, one_per_study=one_per_study, **common)
    wanted = Source(source, study, series, match or ()) if source else None
    tls = Tls(certificate, key, ca)
    pacs = Pacs(wanted, deidentify=deidentify, send_to=send_to, tls=tls)
    raise typer.Exit(run_with_pacs(paths or [], run, out, modalities, pacs, manner))


@app.command()
def report(
    out: Annotated[Path, typer.Argument(help="Where `nestseg segment` wrote its results.")],
) -> None:
    """Write report.html, report.json and report.csv of a run again; of all its shards in one."""
    from nestseg.cli.report import run

    run(out)


@app.command()
def serve(
    out: Annotated[Path, typer.Argument(help="Where `nestseg segment` writes its results.")],
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0: any.")] = 0,
) -> None:
    """Show a run while it goes on, in a browser of this machine."""
    from nestseg.cli.report import run_live

    run_live(out, port)


@app.command()
def verify(
    out: Annotated[Path, typer.Argument(help="Where `nestseg segment` wrote its results.")],
    *,
    again: Annotated[
        bool,
        typer.Option("--again", help="Let the next run segment the cases that differ."),
    ] = False,
    show_phi: Annotated[
        bool, typer.Option("--show-phi", help="Name files that no case made (patient data).")
    ] = False,
) -> None:
    """Check that every result is as it was written, by the digests in the journal."""
    from nestseg.cli.verify import run

    raise typer.Exit(run(out, again=again, show_phi=show_phi))


@app.command()
def deidentify(
    paths: Paths,
    out: Out,
    *,
    pixels_checked: Annotated[
        bool,
        typer.Option(
            "--pixels-checked",
            help="Somebody looked at the pixels: also pass on screen captures and burnt-in text.",
        ),
    ] = False,
) -> None:
    """Write DICOM files without what names their patient (PS3.15 Basic Profile)."""
    from nestseg.cli.deidentify import run

    raise typer.Exit(run(paths, out, pixels_checked=pixels_checked))


@app.command()
def send(
    paths: Paths,
    to: Annotated[str, typer.Option("--to", help=_ADDRESSES)],
    *,
    certificate: Certificate = None,
    key: Key = None,
    ca: Ca = None,
) -> None:
    """Send every DICOM file of a folder to a PACS."""
    from nestseg.cli.network import check_address, send_folder
    from nestseg.pacs.tls import Tls

    address = check_address(to, Tls(certificate, key, ca))
    if address is not None:
        raise typer.Exit(send_folder(paths, address))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def receive(  # noqa: PLR0913  one for each option
    context: typer.Context,
    out: Out,
    *,
    bundle: Annotated[
        list[str], typer.Option("--bundle", "-b", help="Name or folder; may be repeated.")
    ],
    allow: Annotated[
        list[str] | None, typer.Option(help="AE title that may send; may be repeated.")
    ] = None,
    aet: Annotated[str, typer.Option(help="Our AE title.")] = "NESTSEG",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port.")] = 11112,
    certificate: Certificate = None,
    key: Key = None,
    ca: Ca = None,
    quiet: Annotated[
        float, typer.Option(min=0, help="A study is complete after so many seconds of silence.")
    ] = 60,
    quota: Annotated[
        float, typer.Option(min=0, help="GB of images that may lie here at a time.")
    ] = 50,
    limit: Annotated[float, typer.Option(min=0, help="Minutes that a study may take.")] = 60,
) -> None:
    """Listen for studies, segment each when it is complete, and send the results.

    Takes the options of `nestseg segment` too: --select, --dicom, --send-to, --workers and so on.
    """
    from nestseg.cli.receive import Work, run
    from nestseg.cli.segment_options import read
    from nestseg.pacs.receive import Listener
    from nestseg.pacs.tls import Tls

    tls = Tls(certificate, key, ca)
    listener = Listener(aet, host, port, allow or (), tls)
    work = Work(bundle, out, read(context.args), limit * 60, tls)
    run(listener, work, quota=int(quota * 1e9), quiet_seconds=quiet)


@app.command()
def prune(
    bundle: Annotated[str, typer.Argument(help="Name of a bundle of nestseg, or a bundle folder.")],
    data: Annotated[
        Path, typer.Option("--data", help="Data set with index.json, or a list of its cases.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the pruned bundle; new.")],
    *,
    tolerance: Annotated[
        float | None,
        typer.Option(help="Dice that may be lost. Default: 0.01, or as little as budgets allow."),
    ] = None,
    budget_ms: Annotated[float | None, typer.Option(help="Time of a case on this machine.")] = None,
    budget_mb: Annotated[float | None, typer.Option(help="Peak memory, in MB.")] = None,
) -> None:
    """Keep as many levels of a UNet++ as the validation cases need; write it as a bundle."""
    from nestseg.cli.prune import run

    if tolerance is None and budget_ms is None and budget_mb is None:
        tolerance = 0.01
    raise typer.Exit(run(bundle, data, out, tolerance, budget_ms, budget_mb))


@app.command()
def label(
    *,
    bundles: Annotated[
        str, typer.Option("--bundles", "-b", help="Names or folders, with commas between them.")
    ],
    studies: Annotated[
        str, typer.Option("--studies", "-s", help="Folder with images, or a DICOMweb address.")
    ],
    work: Annotated[
        Path, typer.Option("--work", "-w", help="Working folder: trained bundles, fetched images.")
    ] = Path("nestseg-label"),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port.")] = 8000,
    certificate: Certificate = None,
    key: Key = None,
    trust: Trust = False,
) -> None:
    """Label with 3D Slicer or OHIF: bundles, fine-tuning and active learning in MONAI Label."""
    from nestseg.cli.label import run

    tls = (certificate, key)
    run(bundles, studies, work, host=host, port=port, trust=trust, tls=tls)


Debug = Annotated[
    bool,
    typer.Option(
        "--debug",
        help="Print the traceback of an error. It may hold patient data: names, paths, values.",
    ),
]


def _with_debug(command: Callable[..., None]) -> Callable[..., None]:
    """The same command with the option ``--debug``."""

    @wraps(command)
    def run(*, debug: bool, **options: Any) -> None:
        if debug:
            os.environ[trace.DEBUG] = "1"  # also for worker processes and cages
        command(**options)

    signature = inspect.signature(command, eval_str=True)
    option = inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False)
    made: Any = run
    made.__signature__ = signature.replace(
        parameters=[*signature.parameters.values(), option.replace(annotation=Debug)]
    )
    return run


for info in (*app.registered_commands, *bundle_commands.app.registered_commands):
    if info.callback is not None:
        info.callback = _with_debug(info.callback)


def main() -> None:
    """Entry point. Every error ends in one line on stderr: exit code 2, or 1 for an unexpected one.

    Tracebacks quote what a header holds: only ``--debug`` prints them.
    """
    # pydicom and highdicom quote what stands in tags when they warn.
    warnings.simplefilter("ignore")
    try:
        app()
    except BrokenPipeError:  # `nestseg scan … | head`
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:  # noqa: BLE001  nobody sees a traceback who did not ask for it
        trace.show(error)
        line, code = _ending(error)
        sys.stderr.write(f"nestseg: {line}\n")
        sys.exit(code)


def _ending(error: Exception) -> tuple[str, int]:
    """The last line of a run that an error ended, and the exit code."""
    if isinstance(error, NestsegError):
        return str(error), 2
    if isinstance(error, OSError):
        return f"{error.filename or 'output'}: {error.strerror}; try again", 2
    told = trace.told(error, of_arrays=False)
    return f"{type(error).__name__}{told}; --debug prints the traceback (patient data!)", 1
