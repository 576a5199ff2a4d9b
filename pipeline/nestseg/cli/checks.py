"""What must be in order before a run starts. Imports no torch."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from nestseg_prep.errors import InputError, OutputError
from nestseg_prep.site_key import mark_folder


def check_writable(out: Path, inputs: list[Path]) -> None:
    """Make the output folder, and raise an InputError if it takes no results."""
    resolved = out.resolve()
    # Unlike Path.is_dir, this raises nothing for an input that cannot be read.
    folders = [path for path in inputs if os.path.isdir(path)]  # noqa: PTH112
    if any(resolved.is_relative_to(folder.resolve()) for folder in folders):
        raise InputError(f"{out}: lies inside the input; give a folder outside of it")
    try:
        out.mkdir(parents=True, exist_ok=True)
        handle, probe = tempfile.mkstemp(dir=out, prefix=".nestseg-")
        os.close(handle)
        Path(probe).unlink()
        mark_folder(out)
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be written ({error.strerror}); choose another --out"
        ) from error
