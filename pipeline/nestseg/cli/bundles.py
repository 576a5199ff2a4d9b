"""The bundle that a person named."""

from __future__ import annotations

from pathlib import Path

from nestseg.bundle import locate
from nestseg.cli import tables


def find(name_or_path: str) -> Path:
    """The folder of a bundle; says on stderr if it is somebody else's code.

    Raises:
        InputError: there is no such bundle; the message lists those that there are.
    """
    folder = locate.find(name_or_path)
    if not locate.is_ours(folder):
        tables.stderr.print(
            f"[yellow]{folder.name} did not come with nestseg: its configs are code and are run[/]"
        )
    return folder
