"""``nestseg bundle …``: what can be done with bundles."""

from __future__ import annotations

import typer

from nestseg.cli.bundle_new import new

app = typer.Typer(no_args_is_help=True, help="Make bundles.")


@app.callback()
def bundle() -> None:
    """Make bundles."""


app.command("new")(new)
