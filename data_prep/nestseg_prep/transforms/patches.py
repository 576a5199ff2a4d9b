"""Training patches as dictionary transforms."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable
from monai.transforms.traits import MultiSampleTrait
from monai.utils import convert_to_dst_type, convert_to_numpy, ensure_tuple

from nestseg_prep.geometry import Geometry
from nestseg_prep.patches import (
    Places,
    crop_to_output,
    cut,
    draw_balanced,
    grid_starts,
    starts_around,
)
from nestseg_prep.transforms.place import with_first_voxel


class CropToOutputd(MapTransform):
    """Crop targets to what a network puts out for an image of their shape.

    Does nothing for a network with 'same' padding.

    Args:
        keys: targets ``(C, *spatial)``, of the spatial shape that the image goes in with.
        geometry: of the network.
        allow_missing_keys: as everywhere in MONAI.
    """

    def __init__(
        self, keys: KeysCollection, geometry: Geometry, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.geometry = geometry

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Crop every key; the affine follows.

        Raises:
            ValueError: a shape that does not fit the network.
        """
        d = dict(data)
        for key in self.key_iterator(d):
            cropped = crop_to_output(d[key], self.geometry)
            d[key] = with_first_voxel(cropped, d[key], [m // 2 for m in self.geometry.margin])
        return d


@dataclass(frozen=True)
class _Sizes:
    """Of an image's patch and of its target's, and which keys hold either."""

    keys: tuple[Hashable, ...]
    label_keys: tuple[Hashable, ...]
    margin: tuple[int, ...]
    image: tuple[int, ...]
    label: tuple[int, ...]

    @classmethod
    def of(
        cls, geometry: Geometry, size: Sequence[int], keys: KeysCollection, labels: KeysCollection
    ) -> _Sizes:
        image = geometry.input_size(size)
        label = geometry.output_size(image)
        return cls(ensure_tuple(keys), ensure_tuple(labels), geometry.margin, image, label)

    def samples(self, data: Mapping[Hashable, Any], starts: Places) -> list[dict[Hashable, Any]]:
        """One dictionary for each target's patch that begins at ``starts``."""
        image_starts = starts - np.asarray(self.margin) // 2
        samples = [dict(data) for _ in starts]
        for keys, first, size in (
            (self.keys, image_starts, self.image),
            (self.label_keys, starts, self.label),
        ):
            for key in keys:
                patches = cut(convert_to_numpy(data[key]), first, size)
                for sample, patch, start in zip(samples, patches, first, strict=True):
                    like_image = convert_to_dst_type(patch, data[key])[0]
                    sample[key] = with_first_voxel(like_image, data[key], start.tolist())
        return samples

    def around(self, centres: Places, shape: Sequence[int]) -> Places:
        """Where the targets' patches around centres begin."""
        return starts_around(centres, self.label, shape)


class GridPatchesd(MapTransform, MultiSampleTrait):
    """Cut an image into patches whose targets lie side by side and hold every voxel once.

    The target's patch is what the network puts out for the image's. Images and targets are mirrored
    beyond their border.

    Args:
        keys: images ``(C, *spatial)``.
        label_keys: targets ``(C, *spatial)``, of one spatial shape with the images.
        geometry: of the network.
        size: voxels per axis that the target's patch has at least; the network decides how many
            more.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_keys: KeysCollection,
        geometry: Geometry,
        size: Sequence[int],
    ) -> None:
        super().__init__(keys)
        self.sizes = _Sizes.of(geometry, size, keys, label_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> list[dict[Hashable, Any]]:
        """Dictionaries with a patch under each key; all else that was there is in each of them."""
        shape = data[self.sizes.label_keys[0]].shape[1:]
        return self.sizes.samples(data, grid_starts(shape, self.sizes.label))


class BalancedPatchesd(MapTransform, MultiSampleTrait):
    """Cut the same patches each time, as many around each class: what a training set is made of.

    :class:`RandBalancedPatchesd` draws new ones for each epoch.

    Args:
        keys: images ``(C, *spatial)``.
        label_keys: targets ``(C, *spatial)``; channel 0 of the first one holds the classes.
        geometry: of the network.
        size: voxels per axis that the target's patch has at least.
        number: of patches per image.
        seed: of the draw, which is otherwise a matter of the image alone.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_keys: KeysCollection,
        geometry: Geometry,
        size: Sequence[int],
        number: int,
        seed: int = 0,
    ) -> None:
        super().__init__(keys)
        self.sizes = _Sizes.of(geometry, size, keys, label_keys)
        self.number = number
        self.seed = seed

    def __call__(self, data: Mapping[Hashable, Any]) -> list[dict[Hashable, Any]]:
        """Dictionaries with a patch under each key; all else that was there is in each of them."""
        classes = convert_to_numpy(data[self.sizes.label_keys[0]])[0]
        centres = draw_balanced(classes, self.number, np.random.RandomState(self.seed))
        return self.sizes.samples(data, self.sizes.around(centres, classes.shape))


class RandBalancedPatchesd(Randomizable, MapTransform, MultiSampleTrait):
    """Cut random patches, as many around each class, images larger than their targets.

    The target's patch is what the network puts out for the image's: one pixel for the window
    classifier of Ciresan et al. 2012, whose windows these then are, and a tile without its margin
    for a valid U-Net. Images are mirrored beyond their border. MONAI's ``RandCropByLabelClassesd``
    cuts one size for both, and only inside the image.

    Args:
        keys: images ``(C, *spatial)``.
        label_keys: targets ``(C, *spatial)``; channel 0 of the first one holds the classes.
        geometry: of the network.
        size: voxels per axis that the target's patch has at least; the network decides how many
            more.
        number: of patches per image.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_keys: KeysCollection,
        geometry: Geometry,
        size: Sequence[int],
        number: int,
    ) -> None:
        super().__init__(keys)
        self.sizes = _Sizes.of(geometry, size, keys, label_keys)
        self.number = number
        self._centres: Places = np.zeros((0, len(geometry.axes)), dtype=np.intp)

    def randomize(self, data: Any) -> None:
        """Draw the centres; ``data`` are the classes ``(*spatial)``."""
        self._centres = draw_balanced(data, self.number, self.R)

    def __call__(self, data: Mapping[Hashable, Any]) -> list[dict[Hashable, Any]]:
        """Dictionaries with a patch under each key; all else that was there is in each of them."""
        classes = convert_to_numpy(data[self.sizes.label_keys[0]])[0]
        self.randomize(classes)
        return self.sizes.samples(data, self.sizes.around(self._centres, classes.shape))
