"""The command line: what each command takes. What it does is in the module of its name.

Modules are imported inside the commands, so that ``--help`` and ``scan`` stay free of torch.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nestseg.cli import bundle as bundle_commands
from nestseg.outputs.dicom.encoding import Encoding

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
def scan(
    folder: Folder,
    *,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    show_phi: ShowPhi = False,
) -> None:
    """Say what is in a folder: studies, series, geometry; accepted or refused, and why."""
    from nestseg.cli.scan import run

    run(folder, as_json=json, show_phi=show_phi)


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
) -> None:
    """Write every accepted series as NIfTI, or the training set that a bundle asks for."""
    if bundle is None:
        from nestseg.cli.prepare import run

        run(folder, out)
    else:
        from nestseg.cli.prepare_training import run as run_training

        raise typer.Exit(run_training(folder, bundle, out))


@app.command()
def segment(
    paths: Paths,
    bundle: Annotated[
        str, typer.Option("--bundle", "-b", help="Name of a bundle of nestseg, or a bundle folder.")
    ],
    out: Out,
    *,
    trust: Annotated[
        bool, typer.Option("--trust", help="Run a bundle from elsewhere that the audit refuses.")
    ] = False,
    dicom: Annotated[
        bool,
        typer.Option("--dicom", help="Beside NIfTI, write DICOM SEG and SR for DICOM series."),
    ] = False,
    seg_type: Annotated[
        Encoding, typer.Option(help="With --dicom: bits for every reader, or a small label map.")
    ] = Encoding.BINARY,
) -> None:
    """Segment every series that fits the bundle; masks lie on the source voxels."""
    from nestseg.cli.segment import run

    raise typer.Exit(run(paths, bundle, out, trust=trust, dicom=seg_type if dicom else None))


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


def main() -> None:
    """Entry point. Bad input ends in one line on stderr and exit code 2."""
    from nestseg_prep.errors import InputError

    try:
        app()
    except InputError as error:
        sys.stderr.write(f"nestseg: {error}\n")
        sys.exit(2)
    except BrokenPipeError:  # `nestseg scan … | head`
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        sys.stderr.write(f"nestseg: {error.filename or 'output'}: {error.strerror}; try again\n")
        sys.exit(2)
