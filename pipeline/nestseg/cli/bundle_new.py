"""``nestseg bundle new``: a bundle to train, planned from a labelled data set."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nestseg.bundle.new import NewBundle
    from nestseg.bundle.plan import Plan

_UNITS = {"MB": 10**6, "GB": 10**9, "MIB": 2**20, "GIB": 2**30}


def new(
    dataset: Annotated[
        Path,
        typer.Argument(help="Data set in the Decathlon's, nnU-Net's or our layout (index.json)."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the bundle; must not exist.")],
    memory: Annotated[
        str, typer.Option("--memory", help="What a training step may take, e.g. 8GB or 500MB.")
    ] = "8GB",
    network: Annotated[
        str | None,
        typer.Option(
            "--network",
            metavar="NAME",
            help="A grid on an encoder, e.g. unetpp_densenet121. Default: one that fits the data.",
        ),
    ] = None,
) -> None:
    """Make a bundle for a labelled data set: what was chosen and why is in its bundle.yaml."""
    budget = parse_memory(memory)
    from nestseg.bundle import new as making
    from nestseg.cli import tables

    with tables.stderr.status("Reading images …") as status:
        seen: list[str] = []

        def show(name: str) -> None:
            seen.append(name)
            status.update(f"Reading images … {len(seen)}")

        made = making.new(dataset, out, budget, show, network)
    _report(made, out)


def parse_memory(text: str) -> int:
    """``"8GB"`` → bytes.

    Raises:
        InputError: it is no size.
    """
    from nestseg_prep.errors import InputError

    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(MB|GB|MiB|GiB)", text.strip(), re.IGNORECASE)
    if not found:
        raise InputError(f"--memory {text}: no size; write for example 8GB or 500MB")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def _network(plan: Plan) -> str:
    network = plan.network
    if network.counted:
        return f"{network.topology} on {network.counted.encoder} in {plan.dims}D"
    return f"{network.topology} in {plan.dims}D, {len(network.pools)} poolings"


def _report(made: NewBundle, out: Path) -> None:
    from nestseg.cli import tables

    plan = made.plan
    rows = tables.table("Plan", "choice", "value")
    spacing = ["as it is" if mm == 0 else f"{mm:.4g}" for mm in plan.spacing]
    for choice, value in (
        ("cases", ", ".join(f"{len(names)} {part}" for part, names in made.split.items())),
        ("labels", ", ".join(made.labels.values())),
        ("modality", made.data.modality or "not stated"),
        (f"spacing in mm ({plan.axcodes})", "×".join(spacing)),
        ("median shape", tables.by(plan.shape)),
        ("patch", tables.by(plan.patch)),
        ("network", _network(plan)),
        ("batch", str(plan.batch)),
        ("memory of a step", f"{plan.memory / 1e9:.2g} of {plan.budget / 1e9:.3g} GB"),
        ("epochs", str(plan.epochs)),
    ):
        rows.add_row(choice, value)
    tables.console.print(rows)
    for case in made.facts.left_out:
        line = f"nestseg: left out: {case.reason}"
        tables.stderr.print(line, soft_wrap=True, markup=False, highlight=False)
    tables.console.print(f"Bundle: {out}; the reasons are in {out / 'bundle.yaml'}. To train it:")
    command = (
        f"python -m monai.bundle run --config_file {out}/configs/train.json --bundle_root {out}"
    )
    tables.console.print(command, soft_wrap=True, markup=False, highlight=False)
