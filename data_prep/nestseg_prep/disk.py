"""Folders for results: writable, private, and safe against a power cut."""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from nestseg_prep.errors import InputError, OutputError
from nestseg_prep.site_key import mark_folder


def sync_folder(folder: Path) -> None:
    """Makes renames within a folder survive a power cut; not every file system offers it."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def check_writable(out: Path, inputs: Sequence[Path] = (), mode: int = 0o777) -> None:
    """Make a folder for results.

    Args:
        out: the folder.
        inputs: what is read, for results that must not lie among it.
        mode: of a folder that is made here.

    Raises:
        InputError: the folder lies inside an input.
        OutputError: it cannot be made or written.
    """
    resolved = out.resolve()
    # Unlike Path.is_dir, this raises nothing for an input that cannot be read.
    folders = [path for path in inputs if os.path.isdir(path)]  # noqa: PTH112
    if any(resolved.is_relative_to(folder.resolve()) for folder in folders):
        raise InputError(f"{out}: lies inside the input; give a folder outside of it")
    try:
        out.mkdir(parents=True, exist_ok=True, mode=mode)
        handle, probe = tempfile.mkstemp(dir=out, prefix=".nestseg-")
        os.close(handle)
        Path(probe).unlink()
        mark_folder(out)
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be written ({error.strerror}); choose another folder"
        ) from error


@contextmanager
def private() -> Iterator[None]:
    """New files are for their owner alone, and no memory is ever dumped to the disk."""
    mask = os.umask(0o077)
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, limits)
        os.umask(mask)
