"""Volumes that lie far from those of the other cases of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

FEWEST_CASES = 10
"""Fewer say too little about what is usual."""

FAR = 3.5
"""Modified z-score beyond which Iglewicz and Hoaglin (1993) call a value an outlier."""

_TO_SIGMA = 0.6745  # the MAD of a normal distribution, in standard deviations


@dataclass(frozen=True)
class Cohort:
    """How large one structure is in the cases of a run.

    Attributes:
        cases: how many have it measured.
        median: ml.
        quartiles: the lower and the upper one, ml.
        scores: case → modified z-score; empty where there are too few cases, or where more than
            half of them are equally large.
    """

    cases: int
    median: float
    quartiles: tuple[float, float]
    scores: dict[str, float]

    def is_far(self, case: str) -> bool:
        """Whether a case's volume is unusual."""
        return abs(self.scores.get(case, 0.0)) > FAR


def cohort(volumes_ml: Mapping[str, float]) -> Cohort:
    """Describe the volumes of one structure.

    Args:
        volumes_ml: case → ml; at least one.
    """
    values = np.array(list(volumes_ml.values()), dtype=np.float64)
    low, median, high = (float(value) for value in np.percentile(values, (25, 50, 75)))
    spread = float(np.median(np.abs(values - median)))
    scores = {}
    if len(values) >= FEWEST_CASES and spread > 0:
        scores = {
            case: _TO_SIGMA * (volume - median) / spread for case, volume in volumes_ml.items()
        }
    return Cohort(len(values), median, (low, high), scores)
