"""In a cage: what its argument says, for the parent or for the disk."""

import os
import sys
import tempfile
import time
from pathlib import Path


def spread() -> None:
    """Leave processes that nobody waits for, and a tree that is hard to delete."""
    os.chdir(tempfile.gettempdir())
    for _ in range(1100):
        Path("deep").mkdir()
        os.chdir("deep")
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    os.wait()


match sys.argv[1]:
    case "garbage":
        os.write(1, b"\xff\x1b[2J\n" + b"x" * 200_000)
    case "spread":
        spread()
    case "stay":
        spread()
        print("ready", flush=True)
        time.sleep(600)
