"""The border weight map of the U-Net: thin gaps between touching cells weigh most.

Ronneberger et al. 2015, section 3: ``w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))² / (2 σ²))``, where
w_c balances the classes and d1, d2 are the distances to the nearest and second nearest cell.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Labels = npt.NDArray[np.integer[Any]]
Weights = npt.NDArray[np.float32]

_NEGLIGIBLE = 1e-4  # a border weight that is cut off to 0


def separate_touching(instances: Labels) -> Labels:
    """Set a gap of background, one voxel wide, between instances that touch.

    Of two touching instances (through faces, edges or corners) the one with the smaller number
    gives way.

    Args:
        instances: instance of each voxel, 0 for background; integers, any shape.

    Returns:
        A copy.
    """
    largest_near = ndimage.maximum_filter(instances, size=3, mode="nearest")
    return np.where(largest_near > instances, 0, instances)


def class_balance(labels: Labels) -> Weights:
    """w_c: the weight ``N / (K N_c)`` of each voxel's class, for N voxels in K classes.

    All classes that occur weigh the same in total, and the mean over voxels is 1.

    Args:
        labels: class of each voxel; integers, any shape.

    Returns:
        Of the shape of ``labels``.
    """
    classes, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    weights = labels.size / (len(classes) * counts)
    return weights[place.reshape(labels.shape)].astype(np.float32)


def border_weight(instances: Labels, *, w0: float = 10.0, sigma: float = 5.0) -> Weights:
    """The second term: the weight of the background between cells, 0 inside of them.

    The paper leaves open whether the term acts inside cells too; there it would weigh rims, not
    gaps. Each cell's distances are computed only as far as they matter: in a box around it that
    is grown by the distance at which the weight falls below 1e-4.

    Args:
        instances: instance of each voxel, 0 for background; integers, 2D or 3D. Touching instances
            have no gap that could weigh: see :func:`separate_touching`.
        w0: the weight where two cells all but touch.
        sigma: its fall-off, in voxels.

    Returns:
        Of the shape of ``instances``; exact to 1e-4.
    """
    reach = math.ceil(sigma * math.sqrt(2 * math.log(max(w0 / _NEGLIGIBLE, 1.0))))
    nearest = np.full(instances.shape, np.inf)
    second = nearest.copy()
    numbers = np.unique(np.append(instances, 0), return_inverse=True)[1][:-1]  # 0, 1, 2, …
    cells = numbers.reshape(instances.shape)
    for number, box in enumerate(ndimage.find_objects(cells), start=1):
        around = tuple(slice(max(side.start - reach, 0), side.stop + reach) for side in box)
        distance = ndimage.distance_transform_edt(cells[around] != number)
        second[around] = np.minimum(second[around], np.maximum(nearest[around], distance))
        nearest[around] = np.minimum(nearest[around], distance)
    weight = w0 * np.exp(-((nearest + second) ** 2) / (2 * sigma**2))
    return np.where(cells == 0, weight, 0).astype(np.float32)


def weight_map(instances: Labels, *, w0: float = 10.0, sigma: float = 5.0) -> Weights:
    """w: :func:`class_balance` of cells against background, plus :func:`border_weight`.

    Args:
        instances: instance of each voxel, 0 for background; integers, 2D or 3D.
        w0: as for :func:`border_weight`.
        sigma: likewise.

    Returns:
        Of the shape of ``instances``.
    """
    balance = class_balance((instances != 0).astype(np.uint8))
    return balance + border_weight(instances, w0=w0, sigma=sigma)
