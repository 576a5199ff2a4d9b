"""How much memory this process takes, as the kernel keeps account of it (Linux; else unknown)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_STATUS = Path("/proc/self/status")


def resident() -> int | None:
    """Bytes of memory that the process holds; ``None`` where the kernel does not say."""
    return _field("VmRSS")


def peak() -> int | None:
    """The most bytes it has held since it started, or since :func:`forget_peak`.

    Not ``getrusage``: on Linux a new process inherits the peak of the one that started it.
    """
    return _field("VmHWM")


def data() -> int | None:
    """Bytes that ``RLIMIT_DATA`` counts: heap and other writable memory of its own."""
    return _field("VmData")


def forget_peak() -> None:
    """Let :func:`peak` begin anew, where the kernel allows it."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _field(name: str) -> int | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next(
        (1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None
    )
