"""``nestseg bundle import``: a bundle of a model that nnU-Net v2 trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from nestseg.nnunet.importing import Imported


def import_model(
    model: Annotated[
        Path, typer.Argument(help="Results folder of nnU-Net v2, or the zip file of its export.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the bundle; must not exist.")],
    *,
    folds: Annotated[
        str, typer.Option("--folds", help="Comma-separated folds, e.g. 0,1 or all; default: all.")
    ] = "",
    checkpoint: Annotated[
        Literal["final", "best"], typer.Option("--checkpoint", help="Which weights of a fold.")
    ] = "final",
    modality: Annotated[
        str, typer.Option("--modality", help="DICOM modality of the images, e.g. CT or MR.")
    ] = "",
    labels: Annotated[
        Path | None, typer.Option("--labels", help="JSON: label value to name, or to its codes.")
    ] = None,
    orientation: Annotated[
        Literal["file", "RAS", "LPS"] | None,
        typer.Option("--orientation", help="Order of the voxels in the training files."),
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Accept a trainer that nestseg does not know.")
    ] = False,
) -> None:
    """Make a bundle of a trained model of nnU-Net v2; it predicts the same voxels."""
    from nestseg.cli import tables

    with tables.stderr.status("Reading weights …"):
        from nestseg.nnunet.importing import ImportOptions
        from nestseg.nnunet.importing import import_model as importing

        options = ImportOptions(
            folds=tuple(one.strip() for one in folds.split(",") if one.strip()),
            checkpoint=checkpoint,
            modality=modality.upper(),
            labels=labels,
            orientation=orientation,
            any_trainer=trust,
        )
        made = importing(model, out, options)
    _report(made, out)


def _report(made: Imported, out: Path) -> None:
    from nestseg.cli import tables

    model = made.model
    first = model.checkpoints[0]
    copies = 2 ** len(first.mirror_axes)
    assumed = " (assumed; change it by --orientation)" if made.assumed else ""
    guessed = " (guessed; change it by --modality)" if len(made.modalities) > 1 else ""
    rows = tables.table("Imported", "what", "value")
    for what, value in (
        ("configuration", first.configuration + (", after its first stage" * bool(model.previous))),
        ("trainer", first.trainer),
        ("folds", ", ".join(one.fold for one in model.checkpoints)),
        ("channels", ", ".join(model.channels)),
        ("modality", " or ".join(made.modalities) + guessed),
        ("labels", ", ".join(name for value, name in model.labels.items() if value)),
        ("orientation", made.orientation + assumed),
        ("passes per tile", f"{copies * len(model.checkpoints)} (mirrored: {copies})"),
    ):
        rows.add_row(what, value)
    tables.console.print(rows)
    line = f"Bundle: {out}; nestseg segment FOLDER --bundle {out} --out OUT"
    tables.console.print(line, soft_wrap=True, markup=False, highlight=False)
