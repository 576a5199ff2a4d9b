"""The bundle that a person named, and where its code may run."""

from __future__ import annotations

from pathlib import Path

from nestseg.bundle import cage, kernel, locate
from nestseg.bundle import trust as trusted
from nestseg.cli import tables
from nestseg_prep.errors import InputError


def find(name_or_path: str, *, trust: bool = False) -> Path:
    """The folder of a bundle; says on stderr if its code runs in a cage.

    Args:
        name_or_path: name of one of nestseg's bundles, or a bundle folder.
        trust: whether to trust the bundle's code from now on.

    Raises:
        InputError: there is no such bundle (the message lists those that there are), or it needs a
            cage and this system cannot hold one.
    """
    folder = locate.find(name_or_path)
    trusted.check_manifest(folder)
    admit(folder, trust=trust)
    return folder


def admit(folder: Path, *, trust: bool) -> None:
    """Trust a bundle, or say on stderr that it runs in a cage; errors as of :func:`find`."""
    if trust:
        trusted.remember(folder)
    elif trusted.needs_cage(folder):
        trusted.check_links(folder)
        if reason := kernel.unavailable():
            raise InputError(
                f"{folder.name} did not come with nestseg, and cannot be caged here: {reason}; "
                f"{cage.REMEDY}"
            )
        line = f"{folder.name} did not come with nestseg: its code runs in a cage"
        tables.stderr.print(line, style="yellow", soft_wrap=True, markup=False, highlight=False)
