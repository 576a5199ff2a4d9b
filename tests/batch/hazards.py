"""A step of a bundle that does to its process what broken software does."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import Any

from monai.transforms import Transform

BOMB, KILL, ABORT, HANG, RAISE, SLEEP = range(901, 907)
"""What the first voxel of an image asks for."""
PATIENT = "Doe^Jane"


class Hazard(Transform):
    """Looks at the first voxel of ``image``; most are harmless."""

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        value = round(float(data["image"].flatten()[0]))
        if value == BOMB:
            hoard = []
            while True:
                hoard.append(bytearray(50_000_000))
        if value in (KILL, ABORT):
            os.kill(os.getpid(), signal.SIGKILL if value == KILL else signal.SIGABRT)
        if value == HANG:
            subprocess.Popen(["sleep", "1000"])
            while True:
                pass
        if value == RAISE:
            raise KeyError(PATIENT)
        if value == SLEEP:
            time.sleep(1.5)
        return data
