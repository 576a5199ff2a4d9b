"""From the fingerprint of a data set to a plan: spacing, patch, network, batch, and why.

Pure arithmetic; no torch. The rules are those that nnU-Net made common (Isensee et al. 2021, Nature
Methods 18, 203-211, supplementary note 4), for the grid networks of this package: median spacing,
patches as large as the memory allows, pooling as long as an axis is long enough and no coarser than
the others. Axes run along R, A and S, or in another order that puts thick slices last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from nestseg.bundle.memory import Network, training_bytes
from nestseg_prep.errors import InputError
from nestseg_prep.fingerprint import Fingerprint, Triple
from nestseg_prep.geometry import Geometry, GridAxis

Size: TypeAlias = tuple[int, ...]
Number = TypeVar("Number", int, float)

ANISOTROPIC: Final = 3.0
"""An axis this much coarser than the next has thick slices."""
SLICEWISE: Final = 8.0
"""From here on neighbouring slices share too little for a 3D network."""
SHORTEST: Final = 4
"""Voxels that a pooling must leave along an axis."""
MAX_DEPTH: Final = 4
"""Of UNet++ in its paper (Zhou et al. 2018): L4."""
WIDTHS: Final = {2: (32, 512), 3: (16, 320)}
"""Channels at the top and at most, in 2D and 3D."""
MAX_BATCH: Final = {2: 32, 3: 8}
BATCH_SHARE: Final = 0.05
"""More of a data set's voxels than this in one batch would leave too few different batches."""
STEPS: Final = 4000
"""Optimiser steps: about those of `hippocampus_unetpp` (120 epochs of 30)."""

_GB: Final = 10**9
_AXES: Final = "RAS"


@dataclass(frozen=True)
class Plan:
    """How to train on a data set.

    Attributes:
        axcodes: order of the axes, ``"RAS"`` or one that puts the slice axis last.
        spacing: mm per axis; 0 leaves an axis as it is.
        shape: median voxels per axis at that spacing.
        patch: voxels per axis that the network sees in training; 2 or 3 axes.
        network: what is trained.
        batch: patches per step.
        memory: estimated bytes of a step.
        budget: bytes that were allowed.
        anisotropy: the coarsest axis over the next coarsest.
        slices: median slices along the coarsest axis.
        thick: whether that axis is kept apart: pooled later, not rotated into.
        epochs: passes over the training cases.
        val_interval: epochs between two validations.
        cached: cases to hold in memory.
    """

    axcodes: str
    spacing: Triple
    shape: tuple[int, int, int]
    patch: Size
    network: Network
    batch: int
    memory: int
    budget: int
    anisotropy: float
    slices: int
    thick: bool
    epochs: int
    val_interval: int
    cached: int

    @property
    def dims(self) -> int:
        """2 or 3."""
        return len(self.patch)

    @property
    def geometry(self) -> Geometry:
        """Of the network."""
        return grid_geometry(self.network.pools)


def make_plan(
    fingerprint: Fingerprint,
    classes: int,
    training_cases: int,
    budget: int,
    fixed: Callable[[int], Network] | None = None,
) -> Plan:
    """Plan for a memory budget.

    Args:
        fingerprint: of the data set.
        classes: labels with the background.
        training_cases: how many cases there are to train on.
        budget: bytes that a training step may take.
        fixed: the network that is wanted, in 2 or 3 dimensions; default: one that fits the data.

    Raises:
        InputError: the budget is too small for the smallest network.
    """
    median = fingerprint.median_spacing()
    slice_axis = max(range(3), key=lambda axis: (median[axis], axis))
    others = [median[axis] for axis in range(3) if axis != slice_axis]
    anisotropy = median[slice_axis] / max(others)
    slices = fingerprint.median_shape()[slice_axis]
    flat = slices < 2 * SHORTEST or anisotropy >= SLICEWISE
    spacing = target_spacing(fingerprint)
    order = [axis for axis in range(3) if axis != slice_axis] + [slice_axis] if flat else [0, 1, 2]
    planned = fingerprint.median_shape(spacing)
    spacing, shape = _reorder(spacing, order), _reorder(planned, order)
    dims = 2 if flat else 3
    wanted = fixed(dims) if fixed else None
    for patch, network in candidates(shape[:dims], spacing[:dims], classes, wanted):
        if training_bytes(network, patch, least_batch(dims)) <= budget:
            break
    else:
        least = training_bytes(network, patch, least_batch(dims))
        raise InputError(
            f"{budget / _GB:.3g} GB are too little: the smallest network for this data set takes "
            f"{math.ceil(least / _GB * 10) / 10:.1f} GB; give more --memory"
        )
    batch = _batch(network, patch, math.prod(shape) * training_cases, budget)
    steps = math.ceil(training_cases / batch)
    epochs = max(50, math.ceil(STEPS / steps))
    return Plan(
        axcodes="".join(_AXES[axis] for axis in order),
        spacing=(*spacing[:2], 0.0) if flat else spacing,
        shape=shape,
        patch=patch,
        network=network,
        batch=batch,
        memory=training_bytes(network, patch, batch),
        budget=budget,
        anisotropy=anisotropy,
        slices=slices,
        thick=not flat and anisotropy >= ANISOTROPIC,
        epochs=epochs,
        val_interval=max(1, epochs // 25),
        # The image and its label map as float32, in a host taken to have as much as the budget.
        cached=int(budget // (8 * math.prod(shape))),
    )


def target_spacing(fingerprint: Fingerprint) -> Triple:
    """The spacing to resample to, in mm along R, A and S.

    The median of each axis; where one is :data:`ANISOTROPIC` times coarser than both others, its
    10th percentile, but no finer than they are: resampling most cases to thicker slices than they
    have would throw detail away.
    """
    median = fingerprint.median_spacing()
    coarsest = max(range(3), key=lambda axis: (median[axis], axis))
    next_coarsest = max(median[axis] for axis in range(3) if axis != coarsest)
    if median[coarsest] < ANISOTROPIC * next_coarsest:
        return median
    spacing = list(median)
    spacing[coarsest] = max(fingerprint.fine_spacing()[coarsest], next_coarsest)
    return spacing[0], spacing[1], spacing[2]


def poolings(patch: Size, spacing: tuple[float, ...]) -> tuple[Size, ...]:
    """By what each pooling divides each axis.

    An axis is pooled as long as that leaves :data:`SHORTEST` voxels, and only when its voxels are
    no longer than twice the shortest among the axes that can be pooled: voxels become cubes first.
    """
    size, mm = list(patch), list(spacing)
    pools: list[Size] = []
    while len(pools) < MAX_DEPTH:
        able = [axis for axis, n in enumerate(size) if n // 2 >= SHORTEST]
        if not able:
            break
        finest = min(mm[axis] for axis in able)
        factors = tuple(
            2 if axis in able and mm[axis] <= 2 * finest else 1 for axis in range(len(size))
        )
        size = [n // p for n, p in zip(size, factors, strict=True)]
        mm = [d * p for d, p in zip(mm, factors, strict=True)]
        pools.append(factors)
    return tuple(pools)


def grid_geometry(pools: tuple[Size, ...]) -> Geometry:
    """Geometry of a grid network with 'same' padding."""
    depth = len(pools)
    zeros = (0,) * (depth + 1), (0,) * depth
    return Geometry(tuple(GridAxis(p, *zeros).geometry() for p in zip(*pools, strict=True)))


def candidates(
    shape: Size, spacing: tuple[float, ...], classes: int, fixed: Network | None = None
) -> Iterator[tuple[Size, Network]]:
    """Patches with their networks, from the whole image down; each within the one before it.

    The budget only decides where to stop, so that less memory never means a larger patch. The
    longest axis in mm is shortened first, by one period of the network. A UNet++ that does not fit
    with the smallest patch gives way to a U-Net on it; a ``fixed`` network gives way to nothing.
    """
    patch = tuple(
        max(n, 2 * SHORTEST) if mm <= 2 * min(spacing) else n
        for n, mm in zip(shape, spacing, strict=True)
    )
    # The period of a patch that was rounded up may allow one pooling more: round once more.
    for _ in range(MAX_DEPTH):
        pools = fixed.pools if fixed else poolings(patch, spacing)
        patch = grid_geometry(pools).input_size(patch)
    while True:
        pools = fixed.pools if fixed else poolings(patch, spacing)
        patch = grid_geometry(pools).input_within(patch)
        yield patch, fixed or _network("unet++", pools, classes)
        shorter = _shorten(patch, spacing, pools)
        if shorter is None:
            break
        patch = shorter
    if fixed is None:
        yield patch, _network("unet", pools, classes)


def _shorten(patch: Size, spacing: tuple[float, ...], pools: tuple[Size, ...]) -> Size | None:
    """The next smaller patch, or ``None`` where every pooled axis is at its shortest."""
    period = grid_geometry(pools).period
    least = [
        min(n, max(4 * SHORTEST, 2 * p)) if p > 1 else n for n, p in zip(patch, period, strict=True)
    ]
    able = [axis for axis in range(len(patch)) if patch[axis] - period[axis] >= least[axis]]
    if not able:
        return None
    longest = max(able, key=lambda axis: (patch[axis] * spacing[axis], axis))
    return tuple(n - period[axis] * (axis == longest) for axis, n in enumerate(patch))


def _network(topology: str, pools: tuple[Size, ...], classes: int) -> Network:
    top, most = WIDTHS[len(pools[0])]
    features = tuple(min(top * 2**level, most) for level in range(len(pools) + 1))
    return Network(topology, pools, features, classes)


def least_batch(dims: int) -> int:
    """Batch Dice wants two patches at least; slices vary more than volumes."""
    return 2 if dims == 3 else 4


def _batch(network: Network, patch: Size, voxels: int, budget: int) -> int:
    least = least_batch(len(patch))
    most = min(MAX_BATCH[len(patch)], int(BATCH_SHARE * voxels / math.prod(patch)))
    fits = [
        batch for batch in range(least, most + 1) if training_bytes(network, patch, batch) <= budget
    ]
    return max(fits, default=least)


def _reorder(triple: tuple[Number, ...], order: list[int]) -> tuple[Number, Number, Number]:
    i, j, k = (triple[axis] for axis in order)
    return i, j, k
