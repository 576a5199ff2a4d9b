"""Which paths of the server a client may name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from nestseg_prep.errors import InputError

_ID: Final = re.compile(r"[\w.\- ()+@]{1,200}")


def allowed(text: str, roots: Iterable[Path]) -> Path:
    """A path that a client named, if it lies where the server keeps images.

    Nothing about any other path is given away, not even whether it is there.

    Raises:
        InputError: it lies elsewhere, or is not there.
    """
    path = Path(text).resolve()
    if not any(path.is_relative_to(root.resolve()) for root in roots):
        raise InputError("a path outside of the studies; name an image of the studies or send one")
    if not path.exists():
        raise InputError("no such image among the studies")
    return path


def check_id(text: str, what: str = "image") -> str:
    """An id that clients made up, which becomes a file name.

    Raises:
        InputError: it could lead to another folder.
    """
    if not _ID.fullmatch(text) or text.startswith(".") or ".." in text:
        raise InputError(f"no such {what}: an id holds letters, digits and - _ . alone")
    return text
