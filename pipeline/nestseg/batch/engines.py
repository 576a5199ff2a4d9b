"""What can run the cases of a batch."""

from __future__ import annotations

from enum import StrEnum


class Engine(StrEnum):
    """Where workers live."""

    LOCAL = "local"
    """Processes on this machine."""
    RAY = "ray"
    """Actors on a Ray cluster, or on one that is started here."""
