"""Locate, then segment: boxes cut out of a whole scan, and the network run in each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Compose
from scipy import ndimage
from torch import Tensor

from nestseg.bundle.bundle import Bundle, load_bundle
from nestseg.bundle.locator import ID, Locator, boxes
from nestseg.inferers import OverlapTileInferer
from nestseg.inferers.slab import Slab, inner, joined, pieces, plane_values
from nestseg_prep.errors import InputError
from nestseg_prep.grid import Slices
from nestseg_prep.volume import Volume

_FAR = 100.0
"""Logits of the background, against the other classes, where no region is: probability 1."""


class LocatedInferer(OverlapTileInferer):
    """Find structures by another bundle, then run the network in a box around each of them.

    The locator runs on the image as it comes, at its own spacing. The largest piece of each label
    that it is to find is boxed, with a margin; the box is cut out, normalised and segmented as an
    image of its own. The logits are pasted back, each region into channels of its own: relative
    to those of the background, which has 0 everywhere.

    For images of one channel, whose network labels classes that exclude each other.

    Args:
        roi_size: of :class:`~nestseg.inferers.OverlapTileInferer`, and so are all other arguments
            but the following ones.
        locator: the entry ``locator`` of the config (:mod:`nestseg.bundle.locator`).
        intensity: transforms of ``{"image": box}``, which normalise a box that was cut out.
        more: further arguments of ``OverlapTileInferer``.

    Raises:
        InputError: the entry is damaged.
    """

    def __init__(
        self,
        roi_size: Sequence[int],
        *,
        locator: Mapping[str, Any],
        intensity: Sequence[Callable[..., Any]],
        **more: Any,
    ) -> None:
        super().__init__(roi_size, **more)
        found = Locator.of({ID: locator}, "LocatedInferer")
        assert found is not None  # noqa: S101  the entry is there
        self.locator = found
        self.intensity = Compose(list(intensity))

    @cached_property
    def _bundle(self) -> Bundle:
        """The locator, loaded when it is needed first.

        Raises:
            InputError: it cannot be loaded, or lacks a label.
        """
        bundle = load_bundle(self.locator.bundle)
        if bundle.info.locator is not None:
            raise InputError(f"{bundle.info.name}: a locator must not need a locator itself")
        if missing := set(self.locator.regions.values()) - set(bundle.info.labels.values()):
            raise InputError(f"{bundle.info.name}: has no label `{min(missing)}` to look for")
        return bundle

    def boxes(self, image: MetaTensor) -> list[Slices | None]:
        """The box of each region in an image; ``None`` where the locator finds nothing.

        Args:
            image: ``(1, 1, i, j, k)`` with its affine.
        """
        affine = np.asarray(image.affine.cpu(), np.float64).reshape(-1, 4, 4)[0]
        array = np.asarray(image[0, 0].cpu(), np.float32)
        volume = Volume(array, affine)
        mask = self._bundle.predict(volume).mask
        values = {name: value for value, name in self._bundle.info.labels.items()}
        wanted = [values[label] for label in self.locator.regions.values()]
        bright = array - array.min()
        centre = ndimage.center_of_mass(bright) if bright.any() else (0.0, 0.0, 0.0)
        middle = float((affine @ [*centre, 1])[0])
        return boxes(mask, wanted, self.locator.margin_mm, middle)

    def slabs(
        self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> Iterator[Slab]:
        """The logits of all regions in finished slabs.

        Args:
            inputs: one image ``(1, 1, i, j, k)`` with its affine, not normalised.
            network: in eval mode, with a ``geometry``; may be wrapped (``network.module``).
            args: passed on to the network.
            kwargs: likewise.

        Raises:
            ValueError: ``inputs`` is not such an image.
            InputError: the locator cannot be used.
        """
        if not isinstance(inputs, MetaTensor) or inputs.shape[:2] != (1, 1) or inputs.dim() != 5:
            raise ValueError("a scan is located by its affine: give one MetaTensor (1, 1, i, j, k)")
        found = [
            (region, place, self._logits(inputs[inner(place)], network, *args, **kwargs))
            for region, place in enumerate(self.boxes(inputs))
            if place is not None
        ]
        shape = tuple(inputs.shape[2:])
        if not found:  # the number of classes is only known from an answer
            unwrapped: Any = getattr(network, "module", network)
            least = torch.zeros((1, 1, *unwrapped.geometry.input_size((1, 1, 1))))
            answer = joined(super().slabs(least.to(inputs.device), network, *args, **kwargs))
            found = [(0, (slice(0, 0),) * 3, answer)]
        yield from self._pasted(found, shape, bool(getattr(network, "disagrees", False)))

    def _logits(self, part: Tensor, network: Any, *args: Any, **kwargs: Any) -> Tensor:
        image = self.intensity({"image": part[0]})["image"][None]
        return joined(super().slabs(image, network, *args, **kwargs))

    def _pasted(
        self, found: Sequence[tuple[int, Slices, Tensor]], shape: Sequence[int], disagrees: bool
    ) -> Iterator[Slab]:
        """The slabs of the whole image, background outside of the boxes."""
        first = found[0][2]
        classes = first.shape[1] - 1 - disagrees
        channels = 1 + classes * len(self.locator.regions) + disagrees
        least = first.new_zeros((1, channels, 1, *shape[1:]))
        for low, high in pieces(0, shape[0], plane_values(least, 0)):
            values = first.new_zeros((1, channels, high - low, *shape[1:]))
            values[:, 1 : channels - disagrees] = -_FAR
            for region, (side, *rest), logits in found:
                start, stop = max(side.start, low), min(side.stop, high)
                if start >= stop:
                    continue
                part = logits[:, :, start - side.start : stop - side.start]
                to = values[inner((slice(start - low, stop - low), *rest))]
                at = 1 + region * classes
                to[:, at : at + classes] = part[:, 1 : 1 + classes] - part[:, :1]
                if disagrees:
                    to[:, -1] = torch.maximum(to[:, -1], part[:, -1])
            yield Slab(0, low, values)
