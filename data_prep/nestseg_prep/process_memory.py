"""How much memory this process takes, as the kernel keeps account of it, and what it keeps (Linux).

Elsewhere nothing is known, and the system's own habits stay.
"""

from __future__ import annotations

import ctypes
import errno
from contextlib import suppress
from pathlib import Path

from nestseg_prep.errors import InputError

_STATUS = Path("/proc/self/status")
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -2, -3, -4, -8  # malloc.h
_ALLOCATORS = ("DefaultCPUAllocator", "can't allocate memory", "bad_alloc", "out of memory")
_LARGE = 4 * 2**20  # bytes of an array that is given back as soon as it is freed


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


def give_back_freed() -> None:
    """Let freed memory go back to the system at once, in a process that has many before it.

    glibc would keep freed arrays of up to 32 MB, in pieces and for each thread: 0.1 GB of a CT.
    """
    _tell_glibc({_ARENA_MAX: 2, _MMAP_THRESHOLD: _LARGE, _TRIM_THRESHOLD: _LARGE})


def keep_freed() -> None:
    """Keep freed memory for the next array of its size, as a training step makes the same again.

    glibc would give large tensors back to the kernel, which clears their pages anew in each step.
    """
    _tell_glibc({_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 * 2**20})


def out_of_memory_kills() -> int:
    """How many processes the kernel has killed for want of memory since it started."""
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def ran_out(error: BaseException | None) -> bool:
    """Whether an error, or one that it was raised from, says that memory ran out."""
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return True
        # torch, OpenVINO and ONNX Runtime say so in words.
        ours = isinstance(error, InputError)
        if not ours and any(word in str(error) for word in _ALLOCATORS):
            return True
        error = error.__cause__
    return False


def _tell_glibc(settings: dict[int, int]) -> None:
    with suppress(OSError, AttributeError):  # another C library
        library = ctypes.CDLL(None)
        for what, value in settings.items():
            library.mallopt(what, value)


def _field(name: str) -> int | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next(
        (1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None
    )
