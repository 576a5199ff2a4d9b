"""A bundle to hand on: a folder or a zip file of its own, with a manifest of what is in it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from nestseg.bundle import archive, manifest, trust
from nestseg_prep.errors import InputError, OutputError

_PARTS = ("LICENSE", "configs", "docs", "models", "scripts")
_LARGE = tuple(f"large_files.{suffix}" for suffix in ("yml", "yaml", "json"))
_LEFTOVERS = shutil.ignore_patterns("__pycache__", ".*", "*.pyc")


def export(bundle: Path, out: Path) -> Path:
    """Write a bundle with a manifest; what training and runs left in its folder stays behind.

    Args:
        bundle: its folder.
        out: a name that ends in ``.zip``, or the folder that the bundle's folder is put into.

    Returns:
        What was written; it appears whole or not at all.

    Raises:
        InputError: no bundle, a link leads out of it, or the place is taken.
        OutputError: the place cannot be written.
    """
    if not (bundle / "configs" / "metadata.json").is_file():
        raise InputError(f"{bundle}: no bundle: it has no configs/metadata.json; check the path")
    trust.check_links(bundle)
    target = out if out.suffix == ".zip" else out / bundle.name
    if target.exists():
        raise InputError(f"{target}: is there already; remove it or choose another --out")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".nestseg-") as scratch:
            made = Path(scratch) / bundle.name
            _copy(bundle, made)
            (made / manifest.NAME).write_text(manifest.make(made))
            if out.suffix == ".zip":
                packed = Path(scratch) / "packed"
                archive.pack(made, packed)
                made = packed
            made.rename(target)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written ({error.strerror})") from error
    return target


def _copy(bundle: Path, made: Path) -> None:
    made.mkdir()
    for name in (*_PARTS, *_LARGE):
        part = bundle / name
        if part.is_dir():
            shutil.copytree(part, made / name, ignore=_LEFTOVERS)
        elif part.is_file():
            shutil.copyfile(part, made / name)
