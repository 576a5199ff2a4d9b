"""Where the windows of a 'same' network lie, and which of them hold background only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from monai.data.utils import dense_patch_slices
from torch import Tensor

from nestseg.inferers import background
from nestseg.inferers.slab import Tiling, longest
from nestseg_prep.geometry import Geometry
from nestseg_prep.grid import Slices


@dataclass(frozen=True)
class Windows:
    """Places in voxels of the padded image.

    Attributes:
        axis: of the slabs.
        shape: spatial shape of every window.
        box: what the windows cover.
        inside: the part of it that is image, not padding.
        starts: of the windows, rising, per axis.
        groups: the windows to compute, by where they begin along the axis of the slabs.
        empty: the windows that hold background only.
    """

    axis: int
    shape: tuple[int, ...]
    box: Slices
    inside: Slices
    starts: tuple[tuple[int, ...], ...]
    groups: dict[int, list[Slices]]
    empty: list[Slices]


def laid(
    shape: Sequence[int],
    padding: Sequence[tuple[int, int]],
    body: Tensor | None,
    geometry: Geometry,
    tiling: Tiling,
) -> Windows:
    """Lay windows over the body, or over the whole image where nothing is known of it.

    Args:
        shape: of the image.
        padding: of the image, voxels before and after it per axis.
        body: where the padded image is more than background.
        geometry: of the network.
        tiling: how the image is cut.
    """
    size = [n + before + after for n, (before, after) in zip(shape, padding, strict=True)]
    smallest = tuple(map(min, geometry.input_within(tiling.roi_size), size))
    found = background.box(body, size)
    shared = [n - max(1, int(n * (1 - tiling.overlap))) for n in smallest]

    def around(window: Sequence[int]) -> Slices:
        return _around(found, window, shared, geometry.period, size)

    window = smallest
    if tiling.roi_size_max is not None:
        largest = tuple(map(min, geometry.input_within(tiling.roi_size_max), size))
        grown = [
            range(low, high + 1, period)
            for low, high, period in zip(smallest, largest, geometry.period, strict=True)
        ]
        window = _fitting(grown, around, shared)
    box = around(window)
    steps = [
        n if n == whole else n - overlap
        for n, whole, overlap in zip(window, size, shared, strict=True)
    ]
    places = dense_patch_slices([s.stop - s.start for s in box], window, steps)
    corners = zip(*[[s.start for s in place] for place in places], strict=True)
    starts = tuple(
        tuple(sorted({s.start + k for k in along})) for s, along in zip(box, corners, strict=True)
    )
    inside = tuple(
        slice(max(s.start, before), min(s.stop, before + n))
        for s, n, (before, _) in zip(box, shape, padding, strict=True)
    )
    axis = longest(shape)
    groups: dict[int, list[Slices]] = {start: [] for start in starts[axis]}
    empty: list[Slices] = []
    for corner in product(*starts):
        place = tuple(slice(s, s + n) for s, n in zip(corner, window, strict=True))
        filled = body is None or bool(body[place].any())
        (groups[corner[axis]] if filled else empty).append(place)
    first = starts[axis][0]
    if not groups[first]:  # what channels there are, one must tell
        groups[first] = empty[:1]
    return Windows(axis, window, box, inside, starts, groups, empty)


def _fitting(
    grown: Sequence[range], around: Callable[[Sequence[int]], Slices], shared: Sequence[int]
) -> tuple[int, ...]:
    """The window that computes the fewest voxels; of equal ones the smallest.

    Three are tried, the smallest, the middle and the largest along all axes: who compiles networks
    compiles each shape once, for seconds, and shall not meet a new one with every image.

    Args:
        grown: windows that the network admits, per axis.
        around: a window → the box that it is to cover.
        shared: voxels of two neighbours, per axis.
    """

    def computed(window: tuple[int, ...]) -> int:
        rows = zip(window, around(window), shared, strict=True)
        return prod(w * _count(s.stop - s.start, w, both) for w, s, both in rows)

    return min(
        (tuple(one[int(k * (len(one) - 1))] for one in grown) for k in (0, 0.5, 1)), key=computed
    )


def _count(extent: int, window: int, shared: int) -> int:
    """Windows along an axis."""
    return 1 - -max(0, extent - window) // (window - shared)


def _around(
    body: Slices | None,
    window: Sequence[int],
    shared: Sequence[int],
    period: Sequence[int],
    size: Sequence[int],
) -> Slices:
    """The box that windows are to cover: a margin more than the body, one window at least.

    The margin is a period; where half of one takes fewer windows, it is what these cover. The box
    begins at a multiple of the period, so that the poolings fall as they do in the whole image.
    """
    if body is None:
        return tuple(slice(0, n) for n in window)
    found = []
    for s, n, both, p, whole in zip(body, window, shared, period, size, strict=True):
        wide, narrow = (_with_margin(s, margin, n, p, whole) for margin in (p, -(-p // 2)))
        count = _count(narrow.stop - narrow.start, n, both)
        if count < _count(wide.stop - wide.start, n, both):
            covered = narrow.start + n + (count - 1) * (n - both)
            wide = slice(narrow.start, min(wide.stop, covered))
        found.append(wide)
    return tuple(found)


def _with_margin(s: slice, margin: int, window: int, period: int, whole: int) -> slice:
    """The body along an axis with a margin, one window at least, from a multiple of the period."""
    low, high = max(0, s.start - margin), min(whole, s.stop + margin)
    low = max(0, low - max(0, window - (high - low)) // 2)
    low = min(low, whole - window)
    low -= low % period
    return slice(low, max(high, low + window))
