"""Which bundles run without a cage: those that came with nestseg, and those this site trusts.

Both are known by the digest of their files, never by name or place. A bundle that changes is a new
one and has to be trusted again.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from nestseg.bundle import cage, locate, manifest
from nestseg.bundle.findings import failing
from nestseg.bundle.info import WEIGHTS
from nestseg_prep.errors import InputError, OutputError
from nestseg_prep.site_key import key_file

DIGESTS: Final = "DIGESTS.sha256"
"""In the folder of nestseg's own bundles: ``digest  name``; ``bundle render`` writes it."""

# Text and pictures for people; whatever else a bundle holds may decide what it does.
_DOCUMENTS: Final = {".md", ".txt", ".rst", ".log", ".bib", ".pdf", ".png", ".jpg", ".jpeg", ".svg"}
_NAMED_DOCUMENTS: Final = {"LICENSE", "NOTICE", "README", "CITATION"}


def digest(bundle: Path, *, documents: bool = False) -> str:
    """SHA-256 over the files of a bundle, by name and content.

    Args:
        bundle: its folder. What a link leads to counts as a file of the bundle, and so does the
            place that a link to a folder names.
        documents: whether text and pictures for people count too. Configs of ours read none; those
            of others could run what such a file holds.
    """
    total = hashlib.sha256()
    for path in sorted(bundle.rglob("*")):
        name = path.relative_to(bundle).as_posix()
        if path.is_symlink():
            total.update(f"{name}\0link\0{path.readlink()}\0\n".encode("utf-8", "surrogateescape"))
        if not path.is_file() or (_is_document(path) and not documents):
            continue
        total.update(f"{name}\0{manifest.digest(path)}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def check_manifest(bundle: Path) -> None:
    """Pass if a bundle has no manifest, or is as its manifest lists it.

    Raises:
        InputError: a file is missing, changed or not listed.
    """
    if found := failing(manifest.check(bundle, demanded=False), strict=False):
        raise InputError(f"{bundle.name}: {found[0].line}")


def check_links(bundle: Path) -> None:
    """Pass if no link in a bundle leads out of it: whoever copied the bundle would follow it.

    Raises:
        InputError: one does.
    """
    root = os.path.realpath(bundle)
    for path in bundle.rglob("*"):
        if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
            name = cage.printable(path.relative_to(bundle).as_posix(), 200)
            raise InputError(
                f"{bundle.name}: {name} is a link that leads out of the bundle; put the file in "
                "its place, or run it with --trust if you trust its code"
            )


def same_code(copy: Path, source: Path) -> bool:
    """Whether a copy of a bundle holds no file that its source does not hold, weights aside."""
    for path in copy.rglob("*"):
        name = path.relative_to(copy)
        if path.is_symlink():
            return False
        if name.parts[0] != WEIGHTS.parts[0] and path.is_file() and not _is_document(path):
            original = source / name
            if not original.is_file() or manifest.digest(original) != manifest.digest(path):
                return False
    return True


def is_ours(bundle: Path) -> bool:
    """Whether a folder holds, byte for byte, a bundle that came with nestseg."""
    return digest(bundle) in _listed(locate.home() / DIGESTS)


def needs_cage(bundle: Path) -> bool:
    """Whether the code of a bundle may only run in a cage, and this process is not in one."""
    if cage.inside():
        return False
    return not is_ours(bundle) and digest(bundle, documents=True) not in _listed(_trusted())


def remember(bundle: Path) -> None:
    """Trust the code of a bundle from now on, for every run of this user.

    Raises:
        OutputError: the user's configuration cannot be written.
    """
    if not needs_cage(bundle):
        return
    path = _trusted()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with path.open("a") as file:
            file.write(f"{digest(bundle, documents=True)}  {cage.printable(bundle.name)}\n")
    except OSError as error:
        raise OutputError(f"{path}: cannot remember the trust ({error.strerror})") from error


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
