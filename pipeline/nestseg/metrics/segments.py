"""Foreground-restricted Rand and information scores of a segmentation into many segments.

Arganda-Carreras et al. 2015, "Crowdsourcing the creation of image segmentation algorithms for
connectomics". Both scores count only pixels that the truth calls foreground, so that the exact
width of a border does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Labels = npt.NDArray[np.integer[Any]]
Shares = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SplitMerge:
    """A score and its two sides, each from 0 to 1 (perfect).

    Attributes:
        f_score: the harmonic mean of the two.
        split: falls where a true segment is split.
        merge: falls where true segments are merged.
    """

    f_score: float
    split: float
    merge: float


def v_rand(prediction: Labels, truth: Labels) -> SplitMerge:
    """The foreground-restricted Rand scores: split Σp²/Σt², merge Σp²/Σs².

    p are the shares of the pixels in each pair of a predicted and a true segment, s and t those in
    each predicted and each true segment. Σp² is the chance that two pixels, drawn with replacement,
    share their segment in both. (scikit-image's ``adapted_rand_error`` draws without replacement,
    and takes the predicted border for one ordinary segment.)

    Args:
        prediction: segment of each pixel, 0 for the border; integers, any shape. Every border pixel
            that lies on true foreground counts as a segment of its own; :func:`segments_of` leaves
            none.
        truth: likewise; pixels of its border are left out.

    Raises:
        ValueError: the shapes differ, or the truth has no foreground.
    """
    p, s, t = (float(np.square(shares).sum()) for shares in _shares(prediction, truth))
    return SplitMerge(2 * p / (s + t), p / t, p / s)


def v_info(prediction: Labels, truth: Labels) -> SplitMerge:
    """The foreground-restricted information scores: split I(S;T)/H(S), merge I(S;T)/H(T).

    S and T are the predicted and the true segment of a pixel, I their mutual information, H the
    entropies. Where a side has no entropy (a single segment), nothing can be split or merged and
    that score is 1; where neither has, all three are.

    Args:
        prediction: as for :func:`v_rand`.
        truth: likewise.

    Raises:
        ValueError: the shapes differ, or the truth has no foreground.
    """
    joint, s, t = (_entropy(shares) for shares in _shares(prediction, truth))
    shared = min(max(s + t - joint, 0.0), s, t)  # rounding must not leave 0..1
    return SplitMerge(
        2 * shared / (s + t) if s + t else 1.0, shared / s if s else 1.0, shared / t if t else 1.0
    )


def segments_of(foreground: npt.NDArray[np.bool_], connectivity: int = 1) -> npt.NDArray[np.intp]:
    """Connected components whose borders are thinned until nothing is left of them.

    Every border pixel joins the segment nearest to it, so the scores do not depend on how thick a
    network draws a border. The ISBI 2012 board thinned borders too, by a script of its own, so
    scores may differ from its figures where the borders themselves lie elsewhere.

    Args:
        foreground: what is not border; any shape.
        connectivity: 1 where segments connect through faces, up to ``foreground.ndim`` for corners.

    Returns:
        Segments from 1 on, of the shape of ``foreground``; all 0 only where nothing is foreground.
    """
    structure = ndimage.generate_binary_structure(foreground.ndim, connectivity)
    labels = np.asarray(ndimage.label(foreground, structure)[0], dtype=np.intp)
    if not foreground.any():
        return labels
    nearest = ndimage.distance_transform_edt(
        ~foreground, return_distances=False, return_indices=True
    )
    grown: npt.NDArray[np.intp] = labels[tuple(nearest)]
    return grown


def _shares(prediction: Labels, truth: Labels) -> tuple[Shares, Shares, Shares]:
    """Shares of the true foreground in each pair of segments, predicted and true segment."""
    if prediction.shape != truth.shape:
        raise ValueError(f"a prediction of {prediction.shape} for a truth of {truth.shape}")
    inside = truth != 0
    if not inside.any():
        raise ValueError("the truth has no foreground")
    s = prediction[inside].astype(np.int64)
    border = s == 0
    s[border] = s.max(initial=0) + 1 + np.arange(np.count_nonzero(border))  # singletons
    s_place, s_counts = np.unique(s, return_inverse=True, return_counts=True)[1:]
    t_place, t_counts = np.unique(truth[inside], return_inverse=True, return_counts=True)[1:]
    joint = np.unique(s_place * len(t_counts) + t_place, return_counts=True)[1]
    return joint / len(s), s_counts / len(s), t_counts / len(s)


def _entropy(shares: Shares) -> float:
    return float(-(shares * np.log(shares)).sum())
