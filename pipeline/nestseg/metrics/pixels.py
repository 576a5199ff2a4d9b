"""The pixel error of the ISBI 2012 challenge."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def pixel_error(prediction: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    """1 minus the F-score of the foreground pixels: ``1 - 2TP / (2TP + FP + FN)``.

    The challenge's page defines it as 1 minus the *maximal* F-score of pixel similarity: take the
    smallest value over the thresholds of a probability map. Which class counts as foreground the
    page does not say, so two figures compare only where both say it.

    Args:
        prediction: foreground; bool, any shape.
        truth: likewise.

    Returns:
        From 0 (equal) to 1; 0 where both are empty.

    Raises:
        ValueError: the shapes differ.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"a prediction of {prediction.shape} for a truth of {truth.shape}")
    wrong = np.count_nonzero(prediction != truth)
    counted = np.count_nonzero(prediction) + np.count_nonzero(truth)  # 2TP + FP + FN
    return wrong / counted if counted else 0.0
