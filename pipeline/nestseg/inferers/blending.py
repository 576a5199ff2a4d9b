"""Windows of a 'same' network, blended by Gaussian weights as MONAI's sliding window does.

There is one buffer, as deep as a window along the axis of the slabs. What no further window touches
is divided by its weights and handed over, a few planes at a time; the rest moves to the front.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import torch
from monai.data.utils import compute_importance_map
from torch import Tensor

from nestseg.inferers import background
from nestseg.inferers.batching import batch_size, computed
from nestseg.inferers.mirrored import Mirrored
from nestseg.inferers.slab import (
    Predictor,
    Slab,
    Tiling,
    across,
    inner,
    move_on,
    moved,
    pieces,
    plane_values,
)
from nestseg.inferers.windows import Windows, laid
from nestseg_prep.geometry import Geometry
from nestseg_prep.grid import Slices
from nestseg_prep.padding import symmetric_padding
from nestseg_prep.transforms import mirror_pad_tensor

_SIGMA = 0.125  # of the Gaussian, in windows; MONAI's default


def blended(
    image: Tensor, predict: Predictor, geometry: Geometry, tiling: Tiling
) -> Iterator[Slab]:
    """The finished slabs of an image; see :func:`nestseg.inferers.stitching.slabs`."""
    shape = tuple(image.shape[2:])
    padding = symmetric_padding(shape, geometry.input_size(shape))
    mirrored = Mirrored(image, padding)
    body = background.body(image, tiling.background_at_most)
    whole = body is None
    body = body if body is None else mirror_pad_tensor(body, padding)
    windows = laid(shape, padding, body, geometry, tiling)
    del body  # a byte a voxel
    size = batch_size([len(group) for group in windows.groups.values()], tiling.batch)

    def answers(start: int) -> Iterator[tuple[Slices, Tensor]]:
        read = windows.groups[start]
        return computed(read, size, mirrored.tile, predict)

    before = [low for low, _ in padding]
    parts = (
        Slab(slab.axis, slab.start - before[slab.axis], slab.values)
        for slab in _slabs(windows, answers, image)
    )
    if whole:
        yield from parts
    else:
        yield from background.widened(parts, moved(windows.inside, before), shape)


def _slabs(
    windows: Windows, answers: Callable[[int], Iterator[tuple[Slices, Tensor]]], image: Tensor
) -> Iterator[Slab]:
    """The finished slabs of what the windows cover, without the padding, a few planes each."""
    axis, inside, starts = windows.axis, windows.inside, windows.starts[windows.axis]
    deep = windows.shape[axis]
    weights = _Weights(windows, image) if max(map(len, windows.starts)) > 1 else None
    corner = [s.start for s in windows.box]
    cross = across(moved(inside, corner), axis)
    total: Tensor | None = None
    for start, after in zip(starts, [*starts[1:], starts[-1] + deep], strict=True):
        corner[axis] = start
        for place, part in answers(start):
            if weights is None:  # one window: nothing to blend
                total = part
                continue
            if total is None:  # only now the channels are known
                total = _buffer(windows, part, image)
            total[inner(moved(place, corner))].addcmul_(part.to(total), weights.window)
            del part  # before the next one is made
        assert total is not None  # noqa: S101  the first group is not empty
        done = min(after - start, deep)
        low, high = max(start, inside[axis].start), min(start + done, inside[axis].stop)
        for first, last in pieces(low, high, plane_values(total, axis)):
            values = total.narrow(2 + axis, first - start, last - first)
            if weights is not None:
                values = values / weights.sum(start, done).narrow(axis, first - start, last - first)
            values = values[cross]
            at = [first if k == axis else s.start for k, s in enumerate(inside)]
            yield Slab(axis, first, background.cleared(values, at, windows.empty))
        if after != starts[-1] + deep:
            move_on(total, 2 + axis, done)


def _buffer(windows: Windows, part: Tensor, image: Tensor) -> Tensor:
    """Zeros for what is under way, in the memory format of the network's answers."""
    size = [s.stop - s.start for s in windows.box]
    size[windows.axis] = windows.shape[windows.axis]
    last = torch.channels_last_3d if part.dim() == 5 else torch.channels_last
    kept = last if part.is_contiguous(memory_format=last) else torch.contiguous_format
    shape = (len(part), part.shape[1], *size)
    return torch.empty(shape, dtype=image.dtype, device=image.device, memory_format=kept).zero_()


class _Weights:
    """The Gaussian of a window, and the sum of it over all windows where a slab is finished.

    Between the ends of an image that sum is the same in each slab, so it is kept for the next.

    Attributes:
        window: weights of one window, of its spatial shape.
    """

    def __init__(self, windows: Windows, image: Tensor) -> None:
        self.window: Tensor = compute_importance_map(
            windows.shape, "gaussian", _SIGMA, device=image.device, dtype=image.dtype
        )
        self._windows = windows
        self._known: tuple[tuple[int, ...], int] = ((), 0)
        self._sum = self.window

    def sum(self, start: int, done: int) -> Tensor:
        """The sum over ``done`` planes from where a group of windows begins."""
        windows, axis = self._windows, self._windows.axis
        deep = windows.shape[axis]
        behind = tuple(start - s for s in windows.starts[axis] if s <= start < s + deep)
        if self._known != (behind, done):
            self._known = behind, done
            size = [s.stop - s.start for s in windows.box]
            size[axis] = done
            self._sum = self.window.new_zeros(size)
            others = [[0] if k == axis else s for k, s in enumerate(windows.starts)]
            for corner in product(*others):
                for skipped in behind:
                    count = min(done, deep - skipped)
                    there = [
                        slice(0, count) if k == axis else slice(c - b.start, c - b.start + n)
                        for k, (c, b, n) in enumerate(
                            zip(corner, windows.box, windows.shape, strict=True)
                        )
                    ]
                    self._sum[tuple(there)] += self.window.narrow(axis, skipped, count)
        return self._sum
