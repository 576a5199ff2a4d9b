"""Which process this is, and whether another one still is. No clock is asked."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

_START_FIELD = 19  # of /proc/PID/stat behind the name: ticks since boot


@dataclass(frozen=True)
class Process:
    """A process among all that ever ran on any machine.

    Attributes:
        host: name of the machine, and of the space in which process ids count.
        boot: changes when the machine starts anew.
        pid: its number.
        start: ticks from the start of the machine to its own; ``""`` where that cannot be known.
    """

    host: str
    boot: str
    pid: int
    start: str

    def to_json(self) -> dict[str, str | int]:
        """The process as plain data."""
        return asdict(self)

    def is_gone(self, observer: Process) -> bool:
        """Whether ``observer``, a process that runs now, can tell that this one does not."""
        if self.host != observer.host:
            return False
        if self.boot != observer.boot:
            return True
        return _start(self.pid) != self.start


def this_process() -> Process:
    """The process that asks."""
    return Process(_host(), _boot(), os.getpid(), _start(os.getpid()) or "")


def _host() -> str:
    # Containers may share the name and the boot, but count their processes each for itself.
    space = ""
    with suppress(OSError):
        space = str(Path("/proc/self/ns/pid").readlink())
    return f"{socket.gethostname()} {space}".strip()


def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _start(pid: int) -> str | None:
    """When a process began; ``None`` if there is none of that number, or it is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
        return "" if _answers(pid) else None
    except OSError:  # gone while it was read
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else fields[_START_FIELD - 1]


def _answers(pid: int) -> bool:
    """Whether a process of that number exists, where there is no ``/proc``."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
