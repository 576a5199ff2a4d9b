"""From logits on the grid that a network saw to labels on the voxels of its image, plane by plane.

What MONAI's ``Invertd`` of the logits and an argmax give, without a volume of logits on the image's
grid (MONAI holds several: 10 GB for 14 classes of 512 × 512 × 200). Logits are interpolated only
where it matters: if one class leads at all eight corners of a cell, it leads at every point in it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nestseg_prep.regrid import Line, Regrid


class _Plane(NamedTuple):
    """One plane of the network's grid.

    Attributes:
        logits: ``(P * Q, C)``.
        least: ``(p, q)`` on the target's grid, the smallest of the four labels around a point.
        most: the largest.
    """

    logits: Tensor
    least: Tensor
    most: Tensor


class LinearBack:
    """Takes the slabs of an image as they come, and holds no more than two planes of them.

    Args:
        grid: from the network's grid (its source) to that of the image.

    Attributes:
        labels: ``(i, j, k)`` on the voxels of the image, the first axis fastest in memory; whole
            once the last slab came. ``None`` before the first.
    """

    def __init__(self, grid: Regrid) -> None:
        lines = grid.lines()
        if lines is None:
            raise ValueError("the axes of the two grids are not parallel")
        self.labels: npt.NDArray[Any] | None = None
        self._lines = lines
        self._grid = grid
        self._before: _Plane | None = None

    def add(self, axis: int, start: int, logits: Tensor, labels: Tensor) -> None:
        """Take a slab; they come in rising order.

        Args:
            axis: of the network's grid, that slabs are cut across.
            start: first plane.
            logits: ``(C, *spatial)``.
            labels: ``(*spatial)``, their argmax.
        """
        if self.labels is None:
            kind = np.uint8 if len(logits) <= 256 else np.uint16
            self.labels = np.empty(self._grid.target, kind, order="F")
        for k in range(labels.shape[axis]):
            values = logits.select(1 + axis, k).movedim(0, -1)
            plane = self._plane(axis, values, labels.select(axis, k))
            if self._grid.source[axis] == 1:
                self._between(axis, 0, plane, plane)
            elif self._before is not None:
                self._between(axis, start + k - 1, self._before, plane)
            self._before = plane

    def _plane(self, axis: int, values: Tensor, labels: Tensor) -> _Plane:
        """Copied, since a runtime may write its next answer where these logits lie."""
        (p, q) = (_Ends.of(line, labels.device) for line in self._across(axis))
        rows = labels[p.low], labels[p.high]
        corners = [row[:, end] for row in rows for end in (q.low, q.high)]
        least, most = corners[0], corners[0]
        for corner in corners[1:]:
            least, most = torch.minimum(least, corner), torch.maximum(most, corner)
        return _Plane(values.reshape(-1, values.shape[-1]).clone(), least, most)

    def _between(self, axis: int, low: int, one: _Plane, other: _Plane) -> None:
        """Write the planes of the image that lie between two of the network's."""
        target = next(k for k, line in enumerate(self._lines) if line.axis == axis)
        line = self._lines[target]
        here = np.flatnonzero(line.low == low)
        if not len(here):
            return
        mixed = torch.minimum(one.least, other.least) != torch.maximum(one.most, other.most)
        points = mixed.nonzero(as_tuple=True)
        first, second = (self._at(axis, plane.logits, points) for plane in (one, other))
        assert self.labels is not None  # noqa: S101  `add` made it
        out = np.moveaxis(self.labels, target, 0)
        turned = self._is_turned(axis)
        for n in here:
            found = one.least.clone()
            found[points] = torch.lerp(first, second, float(line.weight[n])).argmax(1).to(found)
            out[n] = (found.T if turned else found).cpu().numpy()

    def _at(self, axis: int, logits: Tensor, points: tuple[Tensor, ...]) -> Tensor:
        """Logits ``(points, C)`` of one plane, interpolated within it."""
        across = self._across(axis)
        p, q = (_Ends.of(line, logits.device) for line in across)
        rows, columns = points
        width = self._grid.source[across[1].axis]
        sides = []
        for row in (p.low[rows] * width, p.high[rows] * width):
            left, right = logits[row + q.low[columns]], logits[row + q.high[columns]]
            sides.append(torch.lerp(left, right, q.weight[columns, None].to(logits)))
        return torch.lerp(sides[0], sides[1], p.weight[rows, None].to(logits))

    def _across(self, axis: int) -> list[Line]:
        """The lines along the other two axes, in the order of the network's axes."""
        others = (line for line in self._lines if line.axis != axis)
        return sorted(others, key=lambda line: line.axis)

    def _is_turned(self, axis: int) -> bool:
        """Whether the image has the other two axes in the other order."""
        others = [line.axis for line in self._lines if line.axis != axis]
        return others != sorted(others)


class _Ends(NamedTuple):
    """A line as tensors."""

    low: Tensor
    high: Tensor
    weight: Tensor

    @classmethod
    def of(cls, line: Line, device: torch.device) -> _Ends:
        found = (torch.from_numpy(one).to(device) for one in (line.low, line.high, line.weight))
        return cls(*found)
