"""The manifest of a bundle: the SHA-256 of every file, as ``sha256sum --check`` reads it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from nestseg.bundle.findings import Finding

NAME = "MANIFEST.sha256"


def digest(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make(folder: Path) -> str:
    """The manifest of a folder: one line ``digest  path`` a file, sorted, without itself."""
    return "".join(f"{digest(folder / name)}  {name}\n" for name in _files(folder))


def check(folder: Path, *, demanded: bool) -> list[Finding]:
    """Compare a bundle with its manifest.

    Args:
        folder: the bundle.
        demanded: whether it is an error that there is none.
    """
    remedy = "get the bundle again from its source"
    path = folder / NAME
    try:
        lines = path.read_text().splitlines()
        listed = {name: value for value, name in (line.split("  ", 1) for line in lines)}
    except FileNotFoundError:
        absent = Finding(NAME, "", "is missing", "make one with `nestseg bundle export`")
        return [absent] if demanded else []
    except (OSError, ValueError):
        return [Finding(NAME, "", "is no list of `digest  path`", remedy)]
    present = set(_files(folder))
    found = [Finding(name, "", "is missing", remedy) for name in sorted(set(listed) - present)]
    found += [
        Finding(name, "", f"is not in {NAME}", remedy) for name in sorted(present - set(listed))
    ]
    found += [
        Finding(name, "", f"is not the file that {NAME} lists", remedy)
        for name in sorted(present & set(listed))
        if digest(folder / name) != listed[name]
    ]
    return found


def _files(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(path.relative_to(folder).as_posix() for path in paths if path != folder / NAME)
