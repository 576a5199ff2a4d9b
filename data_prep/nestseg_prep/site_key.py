"""The secret of this site, with which names that stand for patients and studies are made.

A plain digest of a UID could be looked up by anybody who has the UID. A keyed one says nothing
without the key, and is the same in every run with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from functools import lru_cache
from pathlib import Path
from typing import Final

from nestseg_prep.errors import InputError

VARIABLE: Final = "NESTSEG_KEY"
_MARK_NAME: Final = ".nestseg-key"
_FEWEST_CHARACTERS: Final = 16


def keyed_hash(text: str, *, purpose: str = "name") -> bytes:
    """32 bytes that stand for a text at this site.

    Args:
        text: a UID, a patient's number, a path.
        purpose: hashes for one purpose tell nothing about those for another.

    Raises:
        InputError: there is no key and none can be made.
    """
    message = f"{purpose}\0{text}".encode("utf-8", "surrogateescape")
    return hmac.new(site_key(), message, hashlib.sha256).digest()


def pseudonym(text: str, *, purpose: str, length: int) -> str:
    """Hexadecimal digits that stand for a text at this site, and for themselves.

    The last ones are a keyed digest of the others, so that a pseudonym of this site is recognised
    as one by what it is, and stays as it is; whatever else looks like one is replaced.

    Args:
        text: a patient's number, a word of a header.
        purpose: as for :func:`keyed_hash`.
        length: number of digits: 16 where few texts can be told apart by chance, 24 for patients.

    Raises:
        InputError: there is no key and none can be made.
    """
    size = length * 5 // 8

    def checked(body: str) -> str:
        return body + keyed_hash(body, purpose=f"{purpose} check").hex().upper()[: length - size]

    if text == checked(text[:size]):
        return text
    return checked(keyed_hash(text, purpose=purpose).hex().upper()[:size])


def site_key() -> bytes:
    """The key: what ``NESTSEG_KEY`` says, or a random one kept in the user's state folder.

    Raises:
        InputError: the key is too short, or its file cannot be read or made.
    """
    return _key(os.environ.get(VARIABLE), key_file())


def key_file() -> Path:
    """Where the key lies when ``NESTSEG_KEY`` is not set."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "nestseg" / "key"


def mark_folder(folder: Path) -> None:
    """Ties a folder of results to the key, so that another run cannot mix two sets of names in it.

    Raises:
        InputError: the folder was written with another key.
    """
    mark = folder / _MARK_NAME
    digest = keyed_hash("", purpose="folder").hex()[:16]
    try:
        with mark.open("x") as file:
            file.write(f"{digest}\n")
    except FileExistsError:
        if mark.read_text().strip() != digest:
            raise InputError(
                f"{folder}: its names were made with another site key; set {VARIABLE} or "
                f"XDG_STATE_HOME as they were then, or choose another folder"
            ) from None


@lru_cache
def _key(given: str | None, path: Path) -> bytes:
    if given is not None:
        if len(given) < _FEWEST_CHARACTERS:
            raise InputError(f"{VARIABLE}: shorter than {_FEWEST_CHARACTERS} characters; lengthen")
        return given.encode("utf-8", "surrogateescape")
    try:
        if not path.exists():
            _make(path)
        key = path.read_text().strip()
    except OSError as error:
        raise InputError(
            f"the site key cannot be read or made ({error.strerror}); set {VARIABLE} to a secret "
            "text, or XDG_STATE_HOME to a folder that lasts"
        ) from error
    if len(key) < _FEWEST_CHARACTERS:
        raise InputError(f"{path}: holds no key; delete the file to have a new one made")
    return key.encode()


def _make(path: Path) -> None:
    """Writes a new key; of two processes that do so at once, the first wins."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    own = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32) + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(own)
    finally:
        own.unlink()
