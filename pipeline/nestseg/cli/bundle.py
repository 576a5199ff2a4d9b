"""``nestseg bundle``: list bundles, make them, check, render and export them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nestseg.cli.bundle_list import info, list_bundles
from nestseg.cli.bundle_new import new

if TYPE_CHECKING:
    from nestseg.bundle.findings import Finding

app = typer.Typer(no_args_is_help=True, help="List, make, check, render and export bundles.")
app.command("list")(list_bundles)
app.command("info")(info)
app.command("new")(new)

Bundles = Annotated[
    list[str], typer.Argument(metavar="BUNDLE...", help="Names, bundle folders, or zip files.")
]


@app.command()
def check(
    bundles: Bundles,
    *,
    trust: Annotated[
        bool, typer.Option("--trust", help="Trust the bundles' code from now on: run it uncaged.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Demand a manifest; warnings fail the check too.")
    ] = False,
    schema: Annotated[
        Path | None, typer.Option("--schema", help="MONAI's JSON schema for the metadata.")
    ] = None,
) -> None:
    """Check that bundles run, in a cage if they are not trusted. Exit code 1 if one fails."""
    failed = [name for name in bundles if not _check(name, trust, strict, schema)]
    raise typer.Exit(1 if failed else 0)


@app.command()
def render(
    bundles: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[BUNDLE...]", help="Bundle folders; by default all of nestseg."),
    ] = None,
) -> None:
    """Render the configs of bundles from their recipes."""
    from nestseg.bundle import locate, recipe, trust
    from nestseg_prep.errors import InputError

    home = locate.home()
    folders = bundles or recipe.recipes(home)
    for folder in folders:
        if not (folder / recipe.RECIPE).is_file():
            raise InputError(f"{folder}: no {recipe.RECIPE} to render; check the path")
        recipe.write(folder)
        typer.echo(folder)
    if any(folder.resolve().parent == home for folder in folders):
        trust.write_digests(home)


@app.command()
def export(
    bundle: Annotated[str, typer.Argument(help="Name, or bundle folder.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="A name that ends in .zip, or a folder.")
    ],
) -> None:
    """Write a bundle to hand on, with the SHA-256 of every file in it."""
    from nestseg.bundle import locate
    from nestseg.bundle.export import export as write

    typer.echo(write(locate.find(bundle), out))


@app.command()
def quantize(
    bundle: Annotated[str, typer.Argument(help="Name, or bundle folder; it must be writable.")],
    data: Annotated[Path, typer.Option("--data", help="Data set; its validation cases are used.")],
) -> None:
    """Calibrate a bundle for --precision int8; exit code 1 if its masks would be worse."""
    from nestseg.bundle import cage, locate, trust
    from nestseg.bundle.kernel import Grants
    from nestseg.cli import bundles, tables

    folder = bundles.find(bundle)
    if trust.needs_cage(folder):
        from nestseg_prep.cohort import cases

        files = [Path(path) for case in cases(data.resolve(), "val") for path in case.values()]
        read = (locate.home(), folder, data.resolve(), *files)
        arguments = ["bundle", "quantize", str(folder), f"--data={data.resolve()}"]
        raise typer.Exit(cage.run("nestseg.cli", arguments, Grants(read, (folder / "models",))))
    with tables.stderr.status("Calibrating …"):
        from nestseg.pruning import quantize as making

        record = making.quantize(folder, data)
    compared = f"mean Dice {record.dice_int8:.4f} in int8, {record.dice_fp32:.4f} in float32"
    counted = f"{record.cases} validation cases, {record.failed} failed"
    if not record.kept:
        typer.echo(f"{folder.name}: not kept: {compared} ({counted})", err=True)
        raise typer.Exit(1)
    typer.echo(f"{folder.name}: {compared} ({counted}); run it with --precision int8")


def _check(name: str, trust: bool, strict: bool, schema: Path | None) -> bool:
    """Check one bundle and print what was found; whether it passed."""
    from nestseg.bundle import archive, locate

    path = locate.find(name) if name in locate.names() else Path(name)
    with archive.opened(path) as folder:
        from nestseg.bundle import checks, findings, manifest
        from nestseg.cli import bundles

        bundles.admit(folder, trust=trust)
        found = manifest.check(folder, demanded=strict)
        changed = bool(findings.failing(found, strict=False))
        if changed:
            typer.echo(f"{folder.name}: not run: it is not as its manifest lists it", err=True)
        else:
            found += checks.check(folder, schema)
        passed = not findings.failing(found, strict=strict)
        _print(folder.name, found, passed=passed)
    return passed


def _print(name: str, found: list[Finding], *, passed: bool) -> None:
    from nestseg.cli import tables

    if tables.console.is_terminal and found:
        _table(name, found)
    else:
        for finding in found:
            typer.echo(f"{name}: {finding.severity}: {finding.line}")
    typer.echo(f"{name}: {'passed' if passed else 'failed'}")


def _table(name: str, found: list[Finding]) -> None:
    from rich.markup import escape

    from nestseg.bundle.cage import printable
    from nestseg.cli import tables

    rows = tables.table(name, "severity", "file", "id", "problem", "remedy")
    for column in rows.columns[2:4]:
        column.no_wrap = False
        column.overflow = "fold"
    for finding in found:
        colour = {"error": "red", "warning": "yellow"}.get(finding.severity, "dim")
        cells = (finding.file, finding.place, finding.problem, finding.remedy)
        rows.add_row(
            f"[{colour}]{finding.severity}[/]", *(escape(printable(cell)) for cell in cells)
        )
    tables.console.print(rows)
