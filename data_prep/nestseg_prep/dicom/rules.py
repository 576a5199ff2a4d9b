"""What a person may ask of the ingest beyond its safe default."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """How a series is judged.

    Attributes:
        fill_missing: interpolate up to three missing slices in a row, with a warning, instead of
            refusing the series.
        min_slices: fewest slices of a volume. Below three their distance cannot be verified; a
            single slice is as thick as its header says.
        regroup: take slices with a SeriesInstanceUID each for one series, where they look like it.
    """

    fill_missing: bool = False
    min_slices: int = 3
    regroup: bool = False


SAFE = Rules()
