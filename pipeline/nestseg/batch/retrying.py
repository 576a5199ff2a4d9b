"""What follows from a failed attempt. Pure."""

from __future__ import annotations

from typing import Final

from nestseg.batch.states import Cause, State

ATTEMPTS: Final = 3
_FINAL: Final = (Cause.INPUT, Cause.CHANGED, Cause.CODE)


def after(cause: Cause, failures: int) -> State:
    """Where a case stands after its ``failures``-th failed attempt.

    Returns:
        ``FOUND`` for another attempt in this run, ``FAILED`` for one in the next run,
        ``QUARANTINED`` for none until somebody asks for it.
    """
    if cause in _FINAL:
        return State.FAILED
    # Smaller tiles are all that can be done about memory.
    most = 2 if cause is Cause.MEMORY else ATTEMPTS
    return State.FOUND if failures < most else State.QUARANTINED
