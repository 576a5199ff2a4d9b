"""nnU-Net's sliding window, stitched as nnU-Net does: the same tiles, weights and roundings."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from functools import lru_cache
from itertools import combinations, product
from math import ceil
from typing import Any, Final

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.inferers import Inferer
from monai.networks.utils import eval_mode
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, convert_to_tensor
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from nestseg.inferers.slab import move_on, pieces
from nestseg.nnunet.labels import Decision, LabelsBack
from nestseg.nnunet.resampling import Resampling
from nestseg.nnunet.transforms import NnUNetPreprocessd

_PEAK: Final = 10.0  # of the Gaussian, which nnU-Net keeps in half precision


class Folds(nn.Module):
    """Networks of one kind, trained on different folds; the answer is the mean of their logits.

    Args:
        network: of one fold.
        count: how many there are.
    """

    def __init__(self, network: nn.Module, count: int) -> None:
        super().__init__()
        self.folds = nn.ModuleList([network, *(deepcopy(network) for _ in range(count - 1))])
        self.geometry: Any = network.geometry

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, C, *spatial)`` for ``x`` ``(B, channels, *spatial)``, in eval mode."""
        total: Tensor = self.folds[0](x)
        for fold in self.folds[1:]:
            total = total + fold(x)
        return total / len(self.folds)


class Cascade(nn.Module):
    """The networks of nnU-Net's cascade; as a network it is the second stage.

    Args:
        first: sees the image, at a coarse spacing.
        second: sees the image and the labels of the first stage, as channels.
    """

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first = first
        self.second = second
        self.geometry: Any = second.geometry

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, C, *spatial)`` of the second stage."""
        logits: Tensor = self.second(x)
        return logits


class NnUNetInferer(Inferer):
    """Predict as nnU-Net v2 does: tiles, mirroring, resampling of the logits, decision.

    The result is a label map, not logits: nnU-Net decides on the voxels of the image, and its
    logits on them are more than memory holds. :class:`NnUNetPreprocessd` says in the image's trace
    how it resampled; an image without that gets labels on its own grid.

    Tiles are blended in half precision in nnU-Net's order, so memory holds one row of tiles.

    Args:
        patch_size: of a tile, ``(z, y, x)``, or ``(y, x)`` for a network of slices.
        resampling: of the logits, as the plans say.
        step: of neighbouring tiles, as a fraction of a tile, at most.
        mirror_axes: axes of a tile to mirror along, alone and together; the mean of the logits
            counts.
        regions: label of each channel, for networks of overlapping regions (sigmoid); ``None`` for
            classes that exclude each other.
    """

    def __init__(
        self,
        patch_size: Sequence[int],
        resampling: Resampling | None = None,
        step: float = 0.5,
        mirror_axes: Sequence[int] = (),
        regions: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if not 0 < step <= 1:
            raise ValueError(f"step must be above 0 and at most 1, got {step}")
        self.patch_size = tuple(patch_size)
        self.resampling = resampling or Resampling(order=1)
        self.step = step
        self.mirror_axes = tuple(mirror_axes)
        self.regions = regions

    def __call__(
        self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> Tensor:
        """Labels ``(B, 1, Z, Y, X)`` on the cropped voxels of the images, uint8 or int16.

        Args:
            inputs: ``(B, channels, z, y, x)``, preprocessed; float32.
            network: in eval mode; may be wrapped (``network.module``).
            args: passed on to the network.
            kwargs: likewise.

        Raises:
            RuntimeError: logits are infinite in half precision.
        """
        unwrapped: Any = getattr(network, "module", network)
        unwrapped = unwrapped.second if isinstance(unwrapped, Cascade) else unwrapped
        folds = list(unwrapped.folds) if isinstance(unwrapped, Folds) else [unwrapped]

        def predictor(fold: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
            return lambda tile: self._mirrored(tile, lambda x: fold(x, *args, **kwargs))

        predictors = [predictor(fold) for fold in folds]
        images = convert_to_tensor(inputs, track_meta=False)
        with torch.no_grad(), _precision(images.device):
            found = [
                self._labels(image, predictors, _record(inputs, k))
                for k, image in enumerate(images)
            ]
        labels = torch.stack(found)[:, None]
        kind = torch.int16 if int(labels.max()) > 255 else torch.uint8
        out: Tensor = convert_to_dst_type(labels, inputs, dtype=kind)[0]
        return out

    def _labels(
        self,
        image: Tensor,
        predictors: Sequence[Callable[[Tensor], Tensor]],
        record: dict[str, Any] | None,
    ) -> Tensor:
        source = tuple(image.shape[1:])
        target, axis = source, None
        if record is not None:
            target = tuple(record["shape"])
            axis = self.resampling.coarse_axis(record["network_spacing"], record["spacing"])
        final = torch.float32 if self.resampling.library == "torch" else torch.float16
        points = self.resampling.points(source, target, axis)
        back = LabelsBack(points, Decision(self.regions), final, image.device)
        for planes in self.logits(image, predictors):
            back.add(planes)
        return back.labels

    def logits(
        self, image: Tensor, predictors: Sequence[Callable[[Tensor], Tensor]]
    ) -> Iterator[Tensor]:
        """The mean logits of several networks in finished planes along the first axis.

        Args:
            image: ``(channels, z, y, x)``.
            predictors: a tile ``(1, channels, *patch_size)`` → ``(1, C, *patch_size)`` each.

        Yields:
            ``(C, planes, y, x)``, float16.
        """
        stitched = [self._stitched(image, predict) for predict in predictors]
        for parts in zip(*stitched, strict=True):
            total = parts[0]
            for part in parts[1:]:
                total += part
            if len(parts) > 1:
                total /= len(parts)
            if torch.isinf(total).any():
                raise RuntimeError("the network's logits are too large for half precision")
            yield total

    def _mirrored(self, tile: Tensor, network: Callable[[Tensor], Tensor]) -> Tensor:
        """``(C, *patch_size)``, the mean over the mirrored copies of a tile."""
        if not self.mirror_axes:
            return network(tile)[0]
        dims = [2 + axis for axis in self.mirror_axes]
        copies = [axes for n in range(len(dims) + 1) for axes in combinations(dims, n)]
        total = network(tile).clone()
        for axes in copies[1:]:
            total += network(tile.flip(axes)).flip(axes)
        total /= len(copies)
        return total[0]

    def _stitched(self, image: Tensor, predict: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
        patch, dims = self.patch_size, len(self.patch_size)
        padded, before = _padded(image, patch)
        starts = [
            _starts(n, p, self.step) for n, p in zip(padded.shape[-dims:], patch, strict=True)
        ]
        weights = _gaussian(patch).to(image.device)
        kept = [slice(low, low + n) for low, n in zip(before[-2:], image.shape[-2:], strict=True)]
        if dims == 2:
            for plane in padded.unbind(1):
                sums = _Sums(plane.shape[1:], weights)
                for place in product(*starts):
                    sums.add(predict(_tile(plane, place, patch)), place)
                yield sums.mean()[:, None, kept[0], kept[1]]
            return
        depth, (first, *others) = patch[0], starts
        inside = range(before[0], before[0] + image.shape[1])
        sums = _Sums((depth, *padded.shape[2:]), weights)
        for start, after in zip(first, [*first[1:], first[-1] + depth], strict=True):
            for place in product(*others):
                part = predict(_tile(padded, (start, *place), patch))
                sums.add(part, (0, *place))
            low, high = max(start, inside.start), min(after, inside.stop)
            for one, other in pieces(low, high, sums.total[:, 0].numel()):
                mean = sums.mean(one - start, other - start)
                yield mean[:, :, kept[0], kept[1]]
            sums.move_on(after - start)


class _Sums:
    """Weighted sums of predictions and of their weights, in half precision."""

    def __init__(self, shape: Sequence[int], weights: Tensor) -> None:
        self._shape, self._weights = tuple(shape), weights
        self._counts = torch.zeros(self._shape, dtype=torch.half, device=weights.device)
        self.total = self._counts[:0]

    def add(self, part: Tensor, place: Sequence[int]) -> None:
        """Add a prediction ``(C, *tile)`` that begins at a place."""
        if not len(self.total):  # only now the channels are known
            self.total = self._counts.new_zeros((len(part), *self._shape))
        at = tuple(slice(s, s + n) for s, n in zip(place, self._weights.shape, strict=True))
        self.total[(slice(None), *at)] += part * self._weights
        self._counts[at] += self._weights

    def mean(self, low: int = 0, high: int | None = None) -> Tensor:
        """The weighted mean ``(C, …)`` of some planes."""
        return self.total[:, low:high] / self._counts[low:high]

    def move_on(self, by: int) -> None:
        """Let ``by`` planes go, and make room for as many."""
        if by < self._shape[0]:
            move_on(self.total, 1, by)
            move_on(self._counts, 0, by)


class FirstStaged(MapTransform):
    """Label an image by the first stage of a cascade.

    Args:
        keys: of the image, ``(C, i, j, k)`` as it was read.
        network: of the first stage.
        preprocessing: of the first stage.
        inferer: of the first stage.
        output_key: of the label map, ``(1, i, j, k)`` on the voxels of the image.
    """

    def __init__(
        self,
        keys: KeysCollection,
        network: nn.Module,
        preprocessing: NnUNetPreprocessd,
        inferer: NnUNetInferer,
        output_key: str = "first_stage",
    ) -> None:
        super().__init__(keys)
        self.network = network
        self.preprocessing = preprocessing
        self.inferer = inferer
        self.output_key = output_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the label map."""
        d = dict(data)
        (key,) = self.keys
        image = self.preprocessing({key: d[key]})[key]
        device = next(self.network.parameters()).device
        with eval_mode(self.network):
            labels = self.inferer(image[None].to(device), self.network)[0]
        d[self.output_key] = self.preprocessing.inverse({key: labels})[key]
        return d


def _tile(image: Tensor, place: Sequence[int], patch: Sequence[int]) -> Tensor:
    at = (slice(s, s + n) for s, n in zip(place, patch, strict=True))
    return image[(slice(None), *at)][None].contiguous()


def _padded(image: Tensor, patch: Sequence[int]) -> tuple[Tensor, tuple[int, ...]]:
    """An image padded with 0 to a tile at least, and the voxels in front of it per axis."""
    sizes = [0] * (image.dim() - 1 - len(patch)) + list(patch)
    missing = [max(0, p - n) for p, n in zip(sizes, image.shape[1:], strict=True)]
    before = tuple(n // 2 for n in missing)
    ends = [end for n, low in zip(missing, before, strict=True) for end in (n - low, low)]
    return F.pad(image, ends[::-1]), before


def _starts(size: int, tile: int, step: float) -> list[int]:
    """First voxels of the tiles along an axis: as few as the step allows, evenly spread."""
    count = ceil((size - tile) / (tile * step)) + 1
    if count == 1:
        return [0]
    return [int(np.round((size - tile) / (count - 1) * k)) for k in range(count)]


@lru_cache(maxsize=4)
def _gaussian(patch: tuple[int, ...]) -> Tensor:
    spike = np.zeros(patch)
    spike[tuple(n // 2 for n in patch)] = 1
    smooth = ndimage.gaussian_filter(spike, [n / 8 for n in patch], mode="constant")
    weights = torch.from_numpy(smooth / (smooth.max() / _PEAK)).half()
    weights[weights == 0] = weights[weights != 0].min()
    return weights


def _precision(device: torch.device) -> AbstractContextManager[Any]:
    """Half precision on a GPU, as nnU-Net predicts there."""
    return torch.autocast("cuda") if device.type == "cuda" else nullcontext()


def _record(inputs: Tensor, number: int) -> dict[str, Any] | None:
    """What the preprocessing did to an image of a batch."""
    if not isinstance(inputs, MetaTensor):
        return None
    traced: Any = inputs.applied_operations
    steps = traced[number] if inputs.is_batch else traced
    for step in reversed(steps):
        if step["class"] == NnUNetPreprocessd.__name__:
            return dict(step["extra_info"])
    return None
