"""What must be in order before a run starts. Imports no torch."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from nestseg_prep.errors import InputError
from nestseg_prep.site_key import mark_folder


def refuse_unlisted(bundle: Path) -> None:
    """Raise an InputError if the static audit finds anything in a bundle from elsewhere."""
    from nestseg.bundle.auditing import refusals

    found = refusals(bundle)
    if found:
        more = f" (and {len(found) - 1} more: `nestseg bundle check`)" if len(found) > 1 else ""
        raise InputError(f"{bundle.name}: {found[0]}{more}; --trust runs it all the same")


def check_writable(out: Path, inputs: list[Path]) -> None:
    """Make the output folder, and raise an InputError if it takes no results."""
    resolved = out.resolve()
    if any(resolved.is_relative_to(path.resolve()) for path in inputs):
        raise InputError(f"{out}: lies inside the input; give a folder outside of it")
    try:
        out.mkdir(parents=True, exist_ok=True)
        handle, probe = tempfile.mkstemp(dir=out, prefix=".nestseg-")
        os.close(handle)
        Path(probe).unlink()
        mark_folder(out)
    except OSError as error:
        raise InputError(
            f"{out}: cannot be written ({error.strerror}); choose another --out"
        ) from error
