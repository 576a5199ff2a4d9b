"""SIGINT and SIGTERM end a run in order; a second one ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Whether a signal has come.

    Attributes:
        number: of the signal; 0 for none.
    """

    number = 0

    def __call__(self) -> bool:
        """Whether to stop."""
        return bool(self.number)


@contextmanager
def stopping() -> Iterator[Stop]:
    """What signals say while this lasts. Only a main thread hears them."""
    stop = Stop()

    def hear(number: int, _: FrameType | None) -> None:
        if stop.number:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        stop.number = number

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {name: signal.signal(name, hear) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for name, old in before.items():
            signal.signal(name, old)
