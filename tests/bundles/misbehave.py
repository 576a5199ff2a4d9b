"""In a cage: does what a message says, none of it well."""

import ctypes
import os
import sys
import tempfile
import time
from pathlib import Path

from nestseg.bundle.caged_worker import failure
from nestseg.bundle.channel import Channel


def fill() -> None:
    for number in range(100):
        (Path(tempfile.gettempdir()) / f"{number}").write_bytes(bytes(10**5))
    time.sleep(60)


def raise_foreign() -> None:
    raise RuntimeError("\x1b[2J Mustermann")


DEEDS = {
    "die": lambda: os._exit(3),
    "crash": lambda: ctypes.string_at(0),
    "raise": raise_foreign,
    "take memory": lambda: bytearray(1 << 45),
    "fill": fill,
    "hang": lambda: time.sleep(60),
}

channel = Channel(*map(int, sys.argv[1:]))
deed = channel.receive()["deed"]
try:
    DEEDS[deed]()
except Exception as error:  # noqa: BLE001  it is all that this is for
    channel.send(failure(error))
