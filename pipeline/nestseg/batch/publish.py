"""From the staging folder to their names: outputs appear whole, and only those of the one runner.

A case's files lie in ``OUT/.nestseg-staging/SHARD/TOKEN/CASE.ATTEMPT``. Whoever takes over renames
the folder of the token before: a runner that comes back finds nothing there to rename.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Final

from nestseg.batch.states import Output
from nestseg.bundle.manifest import digest
from nestseg_prep.disk import sync_folder

STAGING: Final = ".nestseg-staging"
_FENCED: Final = "fenced"


def staging_root(out: Path, shard: tuple[int, int] | None) -> Path:
    """Where the runners of one journal keep their staging folders."""
    return out / STAGING / ("all" if shard is None else f"{shard[0]}-of-{shard[1]}")


def make_staging(root: Path, token: int) -> Path:
    """The folder of one token.

    Raises:
        OSError: it cannot be made.
    """
    folder = root / str(token)
    folder.mkdir(parents=True)
    return folder


def fence(root: Path, token: int) -> list[Path]:
    """Rename every staging folder but one's own.

    Returns:
        Where they lie now: the way of a case's files is the same below. Delete them with
        :func:`clear` when what is in them has been settled.
    """
    moved = []
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        if folder.name == str(token):
            continue
        target = folder
        if not folder.name.startswith(_FENCED):
            target = root / f"{_FENCED}-{folder.name}-{secrets.token_hex(4)}"
            with suppress(FileNotFoundError):
                folder.rename(target)
        moved.append(target)
    return moved


def clear(folders: Iterable[Path]) -> None:
    """Delete folders with all that is in them."""
    for folder in folders:
        # A worker of the runner before may still be writing; the next runner deletes the rest.
        shutil.rmtree(folder, ignore_errors=True)


def leave(staging: Path) -> None:
    """Delete the folder of a token, and those above it if no other runner needs them."""
    clear([staging])
    with suppress(OSError):
        staging.parent.rmdir()
        staging.parent.parent.rmdir()


def publish(
    out: Path, stagings: Sequence[Path], outputs: Iterable[Output], *, doubtful: bool = False
) -> None:
    """Give files their names. What has its name already is left alone.

    Args:
        out: the output folder.
        stagings: folders in which a file may lie, the first that has it counts.
        outputs: the files.
        doubtful: whether the machine may have failed since they were written: look at every byte.

    Raises:
        FileNotFoundError: one lies in no folder, and not under its name either.
        OSError: a file cannot be renamed.
    """
    folders = {out}
    for output in outputs:
        target = out / _checked(output.path)
        if target.parent != out:
            target.parent.mkdir(parents=True, exist_ok=True)
        found = [one for one in stagings if not doubtful or _is(one / output.path, output)]
        if not _rename(found, output, target) and not _is(target, output):
            raise FileNotFoundError(2, "a staged file is gone", output.path)
        folders.add(target.parent)
    for folder in folders:
        sync_folder(folder)


def remove(out: Path, outputs: Iterable[Output], *, but: Iterable[Output] = ()) -> None:
    """Delete outputs that no longer hold, except for paths that others have taken."""
    kept = {output.path for output in but}
    for output in outputs:
        if output.path not in kept:
            (out / _checked(output.path)).unlink(missing_ok=True)


def are_there(out: Path, outputs: Sequence[Output]) -> bool:
    """Whether every file lies under its name with its size."""
    try:
        sizes = [(out / output.path).stat().st_size for output in outputs]
    except OSError:
        return False
    return sizes == [output.size for output in outputs]


def _rename(stagings: Sequence[Path], output: Output, target: Path) -> bool:
    for staging in stagings:
        # A network file system may say so of a rename that it has done: the caller looks.
        with suppress(FileNotFoundError):
            (staging / output.path).replace(target)
            return True
    return False


def difference(out: Path, output: Output) -> str:
    """How a file differs from what is on record: ``"missing"``, ``"changed"`` or ``""``."""
    path = out / _checked(output.path)
    if not path.is_file():
        return "missing"
    return "" if _is(path, output) else "changed"


def as_they_are(out: Path, outputs: Iterable[Output], roles: Sequence[str]) -> tuple[Output, ...]:
    """Outputs with the digests and sizes that files of some roles have now, if they are there."""
    return tuple(
        replace(one, sha256=digest(path), size=path.stat().st_size)
        if one.role in roles and (path := out / _checked(one.path)).is_file()
        else one
        for one in outputs
    )


def _is(path: Path, output: Output) -> bool:
    try:
        return digest(path) == output.sha256
    except OSError:
        return False


def _checked(path: str) -> str:
    """A path that stays in its folder; a worker that a hostile file took over may say anything."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or any(part.startswith(".") for part in pure.parts):
        raise OSError(1, "a worker names an output outside of the folder")
    return path
