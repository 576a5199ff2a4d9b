"""Why a run ends before its time, and the exit codes that say so."""

from __future__ import annotations

from enum import IntEnum

from nestseg_prep.errors import NestsegError, OutputError


class ExitCode(IntEnum):
    """What ``nestseg segment`` exits with."""

    ALL_DONE = 0
    SOME_FAILED = 1  # some cases, or a folder could not be read; everything else was done
    NOT_STARTED = 2  # bad input: one line says which
    STORAGE = 3  # the output folder is full, read-only or gone: mend it and run again
    HELD = 4  # another runner works on the folder
    LEASE_LOST = 5  # this one stood still for too long, and another has taken over
    INTERRUPTED = 130  # SIGINT; run again to go on
    TERMINATED = 143  # SIGTERM; likewise


class StopError(NestsegError):
    """Ends a run; the message is one line for a person."""

    code = ExitCode.NOT_STARTED


class HeldError(StopError):
    """Another runner works on the folder. The message says which."""

    code = ExitCode.HELD


class LeaseLostError(StopError):
    """Another runner has taken over: this one may write nothing more."""

    code = ExitCode.LEASE_LOST

    def __init__(self) -> None:
        super().__init__(
            "this run stood still for too long and another one has taken over; "
            "nothing was lost, and the other one goes on"
        )


class StorageError(StopError, OutputError):
    """The output folder takes no more: it is full, read-only or gone."""

    code = ExitCode.STORAGE
