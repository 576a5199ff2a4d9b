"""What a person may ask of the ingest beyond its safe default."""

from __future__ import annotations

from dataclasses import dataclass

from nestseg_prep.errors import check_bool, check_number


@dataclass(frozen=True)
class Rules:
    """How a series is judged.

    Attributes:
        fill_missing: interpolate up to three missing slices in a row, with a warning, instead of
            refusing the series.
        min_slices: fewest slices of a volume. Below three their distance cannot be verified; a
            single slice is as thick as its header says.
        regroup: take slices with a SeriesInstanceUID each for one series, where they look like it.

    Raises:
        InputError: a rule has a value that it does not take; one line.
    """

    fill_missing: bool = False
    min_slices: int = 3
    regroup: bool = False

    def __post_init__(self) -> None:
        check_bool("fill_missing", self.fill_missing)
        check_number("min_slices", self.min_slices, 1, whole=True)


SAFE = Rules()
