"""The words of a batch: what became of a case, which files it made, what to look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from nestseg.outputs.flag import Flag
from nestseg.outputs.volumetry import Sizes

__all__ = ["Cause", "Facts", "Flag", "Output", "State"]


class State(StrEnum):
    """Where a case stands.

    ``FOUND → RUNNING → DONE | FAILED | QUARANTINED``; ``REFUSED`` and ``UNFIT`` never run.
    """

    FOUND = "found"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"  # for now; the next run tries again
    QUARANTINED = "quarantined"  # as often as allowed; only --retry tries again
    REFUSED = "refused"  # the series cannot be trusted
    UNFIT = "does-not-fit"  # the bundle is not made for it


class Cause(StrEnum):
    """Why an attempt failed."""

    INPUT = "input"  # the file's own fault; another attempt would end alike
    CHANGED = "changed"  # the input changed while it was read
    TIMEOUT = "timeout"
    MEMORY = "memory"
    KILLED = "killed"  # the worker died
    STORAGE = "storage"  # no space, no permission, a disk that fails
    CODE = "code"  # an error of the program; the same code on the same input would fail alike
    ERROR = "error"


@dataclass(frozen=True)
class Output:
    """A file that a case made.

    Attributes:
        role: ``"mask"``, ``"preview"``, ``"seg"``, ``"sr"``, ``"uncertainty"``, ``"snapshot"``,
            ``"probability-1"`` …; where labels may overlap ``"mask-1"`` … in place of ``"mask"``.
        path: relative to the output folder, with ``/``.
        sha256: of its bytes.
        size: bytes.
    """

    role: str
    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Facts:
    """What is known of a segmented case besides its files.

    Attributes:
        volumes_ml: size of each label; empty for pictures.
        uncertainty: disagreement of the heads, 0 (none) to 1; ``None`` where the network has one.
        flags: what a person should look at.
        seconds: wall time of each stage: ``"read"``, ``"infer"``, ``"write"``.
        peak_memory_mb: of the worker's process.
        notes: what was done differently than asked, in sentences (a smaller tile, say).
        computed_by: library and numbers that the network was computed with.
        areas_mm2: size of each label in a picture whose pixels have a known size.
        pixels: size of each label in a picture.
    """

    volumes_ml: dict[str, float] = field(default_factory=dict)
    uncertainty: float | None = None
    flags: tuple[Flag, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    peak_memory_mb: float = 0.0
    notes: tuple[str, ...] = ()
    computed_by: str = ""
    areas_mm2: dict[str, float] = field(default_factory=dict)
    pixels: dict[str, int] = field(default_factory=dict)

    @property
    def sizes(self) -> Sizes:
        """How large each label is."""
        return Sizes(self.volumes_ml, self.areas_mm2, self.pixels)
