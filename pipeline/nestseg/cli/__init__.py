"""The command line: what each command takes. What it does is in the module of its name.

Modules are imported inside the commands, so that ``--help`` and ``scan`` stay free of torch.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Folder = Annotated[Path, typer.Argument(help="Folder with DICOM and NIfTI files, at any depth.")]
Paths = Annotated[list[Path], typer.Argument(help="Folders or files, DICOM or NIfTI.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results; made if missing.")]
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
    explain: Annotated[
        bool, typer.Option("--explain", help="Say rule by rule which series are taken.")
    ] = False,
    bundle: Annotated[
        str | None, typer.Option("--bundle", "-b", help="Explain what this bundle takes.")
    ] = None,
    select: Select = None,
    one_per_study: OnePerStudy = False,
) -> None:
    """Say what is in a folder: studies, series, geometry; accepted or refused, and why."""
    from nestseg.cli.scan import run

    selection = None
    if explain or bundle or select or one_per_study:
        from nestseg.cli.choice import selection as chosen

        selection = chosen(bundle, select, one_per_study=one_per_study)
    run(folder, as_json=json, show_phi=show_phi, selection=selection)


@app.command()
def prepare(folder: Folder, out: Out) -> None:
    """Write every accepted series as NIfTI with its true values and geometry."""
    from nestseg.cli.prepare import run

    run(folder, out)


@app.command()
def segment(
    paths: Paths,
    bundle: Annotated[
        str, typer.Option("--bundle", "-b", help="Name of a bundle of nestseg, or a bundle folder.")
    ],
    out: Out,
) -> None:
    """Segment every series that fits the bundle; masks lie on the source voxels."""
    from nestseg.cli.segment import run

    raise typer.Exit(run(paths, bundle, out))


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
