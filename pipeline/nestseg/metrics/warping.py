"""The warping error: what is wrong with a segmentation once its borders may move.

Jain et al. 2010, "Boundary learning by optimization with topological constraints".
"""

from __future__ import annotations

import heapq
from functools import cache
from itertools import count

import numpy as np
import numpy.typing as npt

# The neighbours of a pixel as (row, column), once around it; those at even places share an edge.
_RING = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))


def warping_error(
    prediction: npt.NDArray[np.generic], truth: npt.NDArray[np.bool_], connectivity: int = 4
) -> float:
    """The share of pixels that stay wrong however the truth is warped towards the prediction.

    Args:
        prediction: as for :func:`topological_errors`.
        truth: likewise.
        connectivity: likewise.

    Returns:
        From 0 (the same topology) to 1. The board of the ISBI 2012 challenge counted only splits
        and mergers among these pixels, so its figures cannot be compared with these.
    """
    return float(topological_errors(prediction, truth, connectivity).mean())


def topological_errors(
    prediction: npt.NDArray[np.generic], truth: npt.NDArray[np.bool_], connectivity: int = 4
) -> npt.NDArray[np.bool_]:
    """The pixels where the prediction differs from the truth warped towards it.

    The truth is warped by flipping simple points, those whose flip neither splits, joins, makes nor
    fills anything, wherever that brings it nearer to the prediction; the pixel that differs most
    goes first. Left over are bridges, cuts, holes and specks, each as few pixels as it takes. The
    result is a local optimum: which pixel of a bridge is left depends on the order.

    Args:
        prediction: foreground ``(rows, columns)``; bool, or its probability.
        truth: foreground of the same shape; bool.
        connectivity: 4 or 8, of the foreground; the background has the other one. With 4, cells are
            kept apart by a membrane that is connected through corners. All beyond the image is
            background.

    Returns:
        ``(rows, columns)``; a probability counts as foreground above 0.5.

    Raises:
        ValueError: not two images of one shape, or another connectivity.
    """
    if prediction.ndim != 2 or prediction.shape != truth.shape:
        raise ValueError(f"a prediction of {prediction.shape} for a truth of {truth.shape}, not 2D")
    simple = _simple_neighbourhoods(connectivity)
    wanted = np.pad(np.asarray(prediction, dtype=np.float64), 1)
    warped = np.pad(truth.astype(bool), 1)
    wrong = warped != (wanted > 0.5)
    distance = np.abs(wanted - warped)
    width = warped.shape[1]
    ring = [row * width + column for row, column in _RING]
    pixels, open_ = warped.ravel().tolist(), wrong.ravel().tolist()  # lists: faster one by one
    order = count()
    queue = [(-distance.flat[at], next(order), int(at)) for at in np.flatnonzero(wrong)]
    heapq.heapify(queue)
    while queue:
        at = heapq.heappop(queue)[2]
        if open_[at] and simple[sum(pixels[at + step] << k for k, step in enumerate(ring))]:
            pixels[at] = not pixels[at]
            open_[at] = False
            for near in (at + step for step in ring):
                if open_[near]:  # may have become simple
                    heapq.heappush(queue, (-distance.flat[near], next(order), near))
    return np.array(open_).reshape(warped.shape)[1:-1, 1:-1]


@cache
def _simple_neighbourhoods(connectivity: int) -> tuple[bool, ...]:
    """Whether a pixel is simple, for each of the 256 neighbourhoods; bit k is the pixel _RING[k].

    A pixel is simple where Yokoi's connectivity number is 1: a single piece of the foreground
    around it touches it, and it does not fill a hole.
    """
    if connectivity not in (4, 8):
        raise ValueError(f"connectivity must be 4 or 8, got {connectivity}")
    table = []
    for code in range(256):
        x = [bool(code >> k & 1) ^ (connectivity == 8) for k in range(8)]
        number = sum(x[k] - (x[k] and x[k + 1] and x[(k + 2) % 8]) for k in range(0, 8, 2))
        table.append(number == 1)
    return tuple(table)
