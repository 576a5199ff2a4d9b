"""``nestseg bundle list`` and ``bundle info``: which bundles there are, and what one is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

_MOST_LABELS = 4
_LICENCE = 24  # characters of the name of one that is not known
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def list_bundles(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FOLDER...]", help="Also list the bundles in these folders."),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List the installed bundles: what they label, on what images, and whether they are trusted."""
    from nestseg.bundle import describe, locate
    from nestseg.cli import tables

    ours = list(dict(sorted(locate.named().items())).values())
    groups = [("Bundles of nestseg", ours)] if ours else []
    groups += [(f"Bundles in {one}", describe.in_folder(one)) for one in folders or ()]
    found = [(title, [_summary(path) for path in paths]) for title, paths in groups]
    if as_json:
        tables.console.print_json(json.dumps([one for _, rows in found for one in rows]))
        return
    for title, rows in found:
        tables.console.print(_table(title, rows))
    if not ours:
        typer.echo(f"nestseg: {locate.NOT_INSTALLED}", err=True)


def info(
    bundle: Annotated[str, typer.Argument(help="Name of a bundle, or a bundle folder.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Show what a bundle says of itself: labels, input, rules, licence, versions, weights."""
    from nestseg.bundle import describe, locate
    from nestseg.cli import tables

    found = describe.describe(locate.find(bundle))
    if as_json:
        tables.console.print_json(json.dumps(found))
        return
    rows = tables.table(found["name"], "what", "value")
    for what, value in _lines(found):
        if value:
            rows.add_row(what, _plain(value))
    tables.console.print(rows)


def _summary(folder: Path) -> dict[str, Any]:
    """What a list tells of a bundle, or why it cannot be read: one bad bundle hides no other."""
    from nestseg.bundle import describe
    from nestseg.bundle.cage import printable
    from nestseg_prep.errors import InputError

    try:
        return {"folder": str(folder), **describe.summary(folder)}
    except InputError as error:
        return {"folder": str(folder), "name": folder.name, "error": printable(str(error))}


def _table(title: str, found: list[dict[str, Any]]) -> Table:
    from nestseg.cli import tables

    rows = tables.table(
        _plain(title), "bundle", "version", "modality", "dims", "code", "licence; data", "labels"
    )
    rows.columns[5].no_wrap = False
    for one in found:
        if "error" in one:
            rows.add_row(_plain(one["name"]), *["–"] * 5, _plain(one["error"]))
            continue
        licence = "; ".join(filter(None, (one["licence"][:_LICENCE], one["data_licence"])))
        cells = (one["name"], one["version"], one["modality"], f"{one['dims']}D", one["code"])
        rows.add_row(*map(_plain, (*cells, licence, _some(one["labels"]))))
    return rows


def _some(labels: dict[int, str]) -> str:
    names = list(labels.values())
    more = f" and {len(names) - _MOST_LABELS} more" if len(names) > _MOST_LABELS else ""
    return ", ".join(names[:_MOST_LABELS]) + more


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Every line of ``bundle info``; those without a value are not shown."""
    texts = ("title", "version", "task", "description", "intended_use")
    selection = {rule: _taken(value) for rule, value in found["selection"].items()}
    return [
        *((key.replace("_", " "), found.get(key, "")) for key in texts),
        ("labels", _listed(found["labels"], "{} {}")),
        ("input", f"{found['modality']}, {found['dims']}D"),
        ("channels", _listed(found["channels"], "{} {}")),
        ("takes", _listed({k: v for k, v in selection.items() if v}, "{}: {}")),
        ("", found["rules_from"]),
        ("network", found["network"]),
        ("levels", ", ".join(found["levels"])),
        ("figures", _listed(found["figures"], "{}: {}")),
        ("weights", _listed({k: _file(v) for k, v in found["weights"].items()}, "{}: {}")),
        ("requires", _listed(found["requires"], "{} {}", ", ")),
        ("licence", found["licence"]),
        ("data", "; ".join(filter(None, (found.get("data_source"), found["data_licence"])))),
        ("authors", found.get("authors", "")),
        ("code", _CODE[found["code"]]),
    ]


_CODE = {
    "nestseg": "came with nestseg",
    "trusted": "trusted on this site",
    "caged": "from elsewhere: runs in a cage",
}


def _taken(value: Any) -> str:
    if isinstance(value, list):
        texts = [f"{one:g}" if isinstance(one, float) else str(one) or "none" for one in value]
        return " to ".join(texts) if isinstance(value[0], float) else ", ".join(texts)
    return "yes" if value is True else ""


def _file(one: dict[str, Any]) -> str:
    if "missing" in one:
        return str(one["missing"])
    return f"{one['bytes'] / 1e6:.1f} MB, SHA-256 {one['sha256']}"


def _listed(values: dict[Any, Any], form: str, between: str = "\n") -> str:
    return between.join(form.format(key, value) for key, value in values.items())


def _plain(text: str) -> str:
    """Foreign text in which nothing is taken for a style or a command to the terminal."""
    from rich.markup import escape

    from nestseg.bundle.cage import printable

    return escape("\n".join(map(printable, text.split("\n"))))
