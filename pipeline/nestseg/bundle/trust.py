"""Which bundles run without a cage: those that came with nestseg, and those this site trusts.

Both are known by the digest of their files, never by name or place. A bundle that changes is a new
one and has to be trusted again.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from nestseg.bundle import cage, locate
from nestseg_prep.errors import InputError
from nestseg_prep.site_key import key_file

DIGESTS: Final = "DIGESTS.sha256"
"""In the folder of nestseg's own bundles: ``digest  name``; ``bundle render`` writes it."""

# Text and pictures for people; whatever else a bundle holds may decide what it does.
_DOCUMENTS: Final = {".md", ".txt", ".rst", ".log", ".bib", ".pdf", ".png", ".jpg", ".jpeg", ".svg"}
_NAMED_DOCUMENTS: Final = {"LICENSE", "NOTICE", "README", "CITATION"}


def digest(bundle: Path) -> str:
    """SHA-256 over every file of a bundle that is not a document, by name and content.

    Args:
        bundle: its folder. What a link leads to counts as a file of the bundle, and so does the
            place that a link to a folder names.
    """
    total = hashlib.sha256()
    for path in sorted(bundle.rglob("*")):
        name = path.relative_to(bundle).as_posix()
        if path.is_symlink():
            total.update(f"{name}\0link\0{path.readlink()}\n".encode("utf-8", "surrogateescape"))
        if not path.is_file() or _is_document(path):
            continue
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{name}\0{content}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def is_ours(bundle: Path) -> bool:
    """Whether a folder holds, byte for byte, a bundle that came with nestseg."""
    return digest(bundle) in _listed(locate.home() / DIGESTS)


def needs_cage(bundle: Path) -> bool:
    """Whether the code of a bundle may only run in a cage, and this process is not in one."""
    if cage.inside():
        return False
    found = digest(bundle)
    return found not in _listed(locate.home() / DIGESTS) and found not in _listed(_trusted())


def remember(bundle: Path) -> None:
    """Trust the code of a bundle from now on, for every run of this user.

    Raises:
        InputError: the user's configuration cannot be written.
    """
    if not needs_cage(bundle):
        return
    path = _trusted()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with path.open("a") as file:
            file.write(f"{digest(bundle)}  {cage.printable(bundle.name)}\n")
    except OSError as error:
        raise InputError(f"{path}: cannot remember the trust ({error.strerror})") from error


def write_digests(home: Path) -> None:
    """List the digests of all bundles below a folder in the folder's ``DIGESTS.sha256``."""
    folders = sorted(path.parent for path in home.glob("*/configs") if path.is_dir())
    lines = [f"{digest(folder)}  {folder.name}\n" for folder in folders]
    (home / DIGESTS).write_text("".join(lines))


def _is_document(path: Path) -> bool:
    return path.suffix.lower() in _DOCUMENTS or path.name in _NAMED_DOCUMENTS


def _trusted() -> Path:
    return key_file().with_name("trusted-bundles")


def _listed(path: Path) -> set[str]:
    """Digests of a list; one that another user owns counts for nothing."""
    try:
        if path.name != DIGESTS and path.stat().st_uid != os.geteuid():
            return set()
        return {line.split(" ", 1)[0] for line in path.read_text().splitlines()}
    except OSError:
        return set()
