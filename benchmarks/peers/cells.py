"""Cells and tables of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.peers.ways import MONAI, NNUNET

Row = Mapping[str, Any]
DICE = ("Dice with MONAI", "with nnU-Net", "with the truth")


def dice(row: Row) -> list[str]:
    """Agreement with each peer, and with the truth."""
    cells = []
    for peer in (MONAI.name, NNUNET.name):
        one = row.get("agreement", {}).get(peer)
        cells.append(
            "" if one is None else f"{one['dice']:.4f}{'' if one['right'] else ' **wrong**'}"
        )
    return [*cells, number(row.get("truth"), 4)]


def ratio(row: Row, peer: str, key: str) -> str:
    """The peer's figure divided by the row's."""
    return number(row["ratio"].get(peer, {}).get(key), 2)


def number(value: float | None, digits: int) -> str:
    """A number with so many digits; nothing for what is not known."""
    return "" if value is None else f"{value:.{digits}f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown; short rows are filled up."""
    full = [[*row, *[""] * (len(header) - len(row))] for row in rows]
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *full))
