"""The process between a caged one and its parent: it ends the cage, and deletes what that left.

A parent that is killed can tidy nothing up, and one that waits for another case watches nothing.
So each cage has a keeper, outside the cage and without any work of its own. It ends the caged
process, and all that this started, when the parent lets go of a pipe (which also happens when the
parent is killed) or when the temporary folder holds too much.
"""

from __future__ import annotations

import ctypes
import math
import os
import secrets
import select
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

OVERFULL: Final = 93
"""Exit code that says that the temporary folder held too much."""
_MOST_ENTRIES: Final = 100_000
_TICK_MS: Final = 1000
_SET_CHILD_SUBREAPER: Final = 36


def keep(child: int, lifeline: int, folder: Path, most_bytes: int, largest: int) -> int:
    """Watch over a caged process until it has ended, or has to.

    Args:
        child: the process; leads a process group that nothing of it can leave.
        lifeline: file descriptor at whose end the process is ended.
        folder: its temporary folder, which is deleted with it.
        most_bytes: that it may keep there.
        largest: bytes that one file can have.

    Returns:
        Its exit code, negative for a signal.
    """
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    waiting = select.poll()  # knows no largest descriptor, as select does
    for descriptor in (lifeline, os.pidfd_open(child)):
        waiting.register(descriptor, select.POLLIN | select.POLLHUP)
    overfull = False
    while not overfull and not waiting.poll(_TICK_MS):
        overfull = bytes_below(folder) + _hidden_bytes(child, folder, largest) > most_bytes
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # not reaped yet, so the number is still its own
    _, status = os.waitpid(child, 0)
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    remove(folder)
    return OVERFULL if overfull else os.waitstatus_to_exitcode(status)


def bytes_below(folder: Path) -> float:
    """Bytes on disk below a folder; infinite for one that cannot be measured.

    What is too deep, unreadable or in too many pieces can only be meant to hide something.
    """
    total, count, left = 0, 0, [str(folder)]
    while left:
        try:
            with os.scandir(left.pop()) as entries:
                for entry in entries:
                    count += 1
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                    with suppress(FileNotFoundError):
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
        except FileNotFoundError:
            continue
        except OSError:
            return math.inf
        if count > _MOST_ENTRIES:
            return math.inf
    return total


def _hidden_bytes(group: int, folder: Path, largest: int) -> int:
    """Bytes of files that processes of a group hold, and that lie in no folder any more.

    A file that is only mapped counts as the largest possible: its size cannot be seen.
    """
    found: dict[tuple[int, int], int] = {}
    for process in _members(group):
        with suppress(OSError):
            for line in (process / "maps").read_text(errors="replace").splitlines():
                _, _, _, device, inode, name = [*line.split(maxsplit=5), ""][:6]
                if name.startswith(f"{folder}/") and name.endswith(" (deleted)"):
                    major, minor = (int(part, 16) for part in device.split(":"))
                    found[os.makedev(major, minor), int(inode)] = largest
        for descriptor in process.glob("task/*/fd/*"):
            with suppress(OSError):
                status = descriptor.stat()
                if stat.S_ISREG(status.st_mode) and not status.st_nlink:
                    found[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(found.values())


def _members(group: int) -> Iterator[Path]:
    for process in Path("/proc").iterdir():
        with suppress(ValueError, OSError):
            if os.getpgid(int(process.name)) == group:
                yield process


def remove(folder: Path) -> None:
    """Delete a folder, whatever lies in it; nothing may write to it any more.

    ``shutil.rmtree`` stops at folders that are too deep for it, or that nobody may list. Here each
    folder's own folders are moved to the top before it is deleted. Links are not followed.
    """
    with suppress(OSError):
        while entries := list(folder.iterdir()):
            for entry in entries:
                if _is_folder(entry):
                    _flatten(entry, folder)
                else:
                    entry.unlink()
        folder.rmdir()


def _flatten(folder: Path, top: Path) -> None:
    folder.chmod(0o700)
    for inner in list(folder.iterdir()):
        if _is_folder(inner):
            inner.chmod(0o700)
            inner.rename(top / secrets.token_hex(16))
        else:
            inner.unlink()
    folder.rmdir()


def _is_folder(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode)


@contextmanager
def scratch(parent: Path, prefix: str) -> Iterator[Path]:
    """A temporary folder that a cage may write to, deleted by :func:`remove`."""
    folder = Path(mkdtemp(dir=parent, prefix=prefix))
    try:
        yield folder
    finally:
        remove(folder)
