"""From nnU-Net's logits on the network's grid to labels on the voxels of an image, plane by plane.

nnU-Net resamples the logits of all classes to the image, rounds them to half precision, and then
decides; for 118 classes that is more memory than most computers have. Here no more than two planes
of logits are held, and they are resampled only where it matters: if the same class leads clearly at
all corners of a cell, it leads everywhere in it. Elsewhere the sums are SciPy's, term by term, so
that the labels are those of nnU-Net.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Final, NamedTuple

import torch
from torch import Tensor

from nestseg.nnunet.resampling import Points

_CHUNK: Final = 2**22  # values that are resampled at once
_CLEAR: Final = {torch.float16: 2.0**-9, torch.float32: 2.0**-20}
"""How far the first class must lead, relative to its logit, that no rounding makes it a tie."""
_LEAST: Final = 1e-6


class Decision:
    """How labels follow from logits.

    Args:
        regions: label of each channel, each of which counts by itself and paints over those before
            it; ``None``: channels exclude each other, and the largest logit decides.
    """

    def __init__(self, regions: Sequence[int] | None = None) -> None:
        self.regions = None if regions is None else torch.tensor([0, *regions])

    def numbers(self, logits: Tensor) -> Tensor:
        """Number of the channel that decides, ``(n,)``, for logits ``(C, n)``.

        With regions the channels count from 1, and 0 stands for none of them.
        """
        if self.regions is None:
            return logits.max(dim=0).indices
        inside = logits.float().sigmoid() > 0.5  # the comparison that nnU-Net makes
        order = torch.arange(1, len(logits) + 1, device=logits.device)[:, None]
        return (inside * order).max(dim=0).values

    def clear(self, logits: Tensor, numbers: Tensor, final: torch.dtype) -> Tensor:
        """Whether rounding cannot change the decision, ``(n,)``.

        Holds for every mixture of points where it holds and that decide alike.
        """
        if self.regions is not None:
            return (logits.float().abs() > _LEAST).all(dim=0)
        first = logits.gather(0, numbers[None])[0].float()
        others = logits.scatter(0, numbers[None], float("-inf"))
        second = others.max(dim=0).values.float()
        scale = torch.maximum(first.abs(), second.abs()).nan_to_num(posinf=0.0)
        return first - second > _CLEAR[final] * scale + _LEAST

    def labels(self, numbers: Tensor) -> Tensor:
        """The values of a mask."""
        return numbers if self.regions is None else self.regions.to(numbers.device)[numbers]


class _Plane(NamedTuple):
    """A plane of the network's grid, and what can be said of the image's voxels across it.

    Attributes:
        logits: ``(y * x, C)``.
        least: ``(Y, X)``, the smallest number at the four corners around a voxel.
        most: the largest.
        clear: whether the decision is clear at all four.
    """

    logits: Tensor
    least: Tensor
    most: Tensor
    clear: Tensor


class LabelsBack:
    """Takes logits plane by plane and makes labels of them.

    Args:
        points: where the voxels of the image lie on the network's grid.
        decision: from logits to labels.
        final: type that resampled logits are rounded to.

    Attributes:
        labels: ``(Z, Y, X)``, int16, on the voxels of the image; whole after the last plane.
    """

    def __init__(
        self, points: Sequence[Points], decision: Decision, final: torch.dtype, device: torch.device
    ) -> None:
        self._along, *across = (_Ends.of(one, device) for one in points)
        self._across = across
        self._decision = decision
        self._final = final
        size = [len(one.low) for one in (self._along, *across)]
        self.labels = torch.zeros(size, dtype=torch.int16, device=device)
        self._before: _Plane | None = None
        self._count = 0

    def add(self, logits: Tensor) -> None:
        """Take the next planes, ``(C, planes, y, x)``; they come in rising order."""
        for plane in logits.unbind(1):
            here = self._plane(plane)
            number = self._count
            for target in (self._along.high == number).nonzero().flatten().tolist():
                low = here if int(self._along.low[target]) == number else self._before
                if low is None:
                    raise ValueError("planes must come in rising order")
                self._write(target, low, here)
            self._before = here
            self._count += 1

    def _plane(self, logits: Tensor) -> _Plane:
        channels, height, width = logits.shape
        flat = logits.reshape(channels, -1)
        numbers = self._decision.numbers(flat)
        clear = self._decision.clear(flat, numbers, self._final).reshape(height, width)
        numbers = numbers.reshape(height, width)
        y, x = self._across
        least = most = numbers[y.low][:, x.low]
        sure = clear[y.low][:, x.low]
        for rows, columns in product((y.low, y.high), (x.low, x.high)):
            corner = numbers[rows][:, columns]
            least, most = torch.minimum(least, corner), torch.maximum(most, corner)
            sure = sure & clear[rows][:, columns]
        return _Plane(flat.T.contiguous(), least, most, sure)

    def _write(self, target: int, low: _Plane, high: _Plane) -> None:
        """Label the plane of the image that lies between two of the network's."""
        least, most = torch.minimum(low.least, high.least), torch.maximum(low.most, high.most)
        found = least.clone()
        rows, columns = ((least != most) | ~(low.clear & high.clear)).nonzero(as_tuple=True)
        step = max(1, _CHUNK // low.logits.shape[1])
        for start in range(0, len(rows), step):
            some = rows[start : start + step], columns[start : start + step]
            mixed = self._mixed(self._along.weights[:, target], (low, high), some)
            found[some] = self._decision.numbers(mixed.to(self._final).T)
        self.labels[target] = self._decision.labels(found).to(torch.int16)

    def _mixed(
        self, along: Tensor, planes: tuple[_Plane, _Plane], points: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Logits ``(n, C)`` at points of the image, in float64: the terms in SciPy's order."""
        y, x = self._across
        rows, columns = points
        width = int(x.size)
        total = torch.zeros((), dtype=torch.float64)
        for one, row, column in product((0, 1), repeat=3):
            place = y.ends(row)[rows] * width + x.ends(column)[columns]
            term = planes[one].logits[place].double() * along[one]
            term = term * y.weights[row][rows, None] * x.weights[column][columns, None]
            total = total.to(term.device) + term
        return total


class _Ends(NamedTuple):
    """:class:`Points` as tensors, with the length of the source axis."""

    low: Tensor
    high: Tensor
    weights: Tensor
    size: int

    @classmethod
    def of(cls, points: Points, device: torch.device) -> _Ends:
        low, high, weights = (torch.from_numpy(one).to(device) for one in points[:3])
        return cls(low, high, weights, points.size)

    def ends(self, which: int) -> Tensor:
        return self.high if which else self.low
