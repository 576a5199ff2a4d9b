"""Training patches as dictionary transforms."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable
from monai.transforms.traits import MultiSampleTrait
from monai.utils import convert_to_dst_type, convert_to_numpy, ensure_tuple

from nestseg_prep.geometry import Geometry
from nestseg_prep.patches import Places, crop_to_output, cut, draw_balanced, starts_around
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
        self.label_keys = ensure_tuple(label_keys)
        self.image_size = geometry.input_size(size)
        self.label_size = geometry.output_size(self.image_size)
        self.margin = geometry.margin
        self.number = number
        self._centres: Places = np.zeros((0, len(geometry.axes)), dtype=np.intp)

    def randomize(self, data: Any) -> None:
        """Draw the centres; ``data`` are the classes ``(*spatial)``."""
        self._centres = draw_balanced(data, self.number, self.R)

    def __call__(self, data: Mapping[Hashable, Any]) -> list[dict[Hashable, Any]]:
        """Dictionaries with a patch under each key; all else that was there is in each of them."""
        classes = convert_to_numpy(data[self.label_keys[0]])[0]
        self.randomize(classes)
        starts = starts_around(self._centres, self.label_size, classes.shape)
        image_starts = starts - np.asarray(self.margin) // 2
        samples = [dict(data) for _ in range(self.number)]
        for keys, first, size in (
            (self.keys, image_starts, self.image_size),
            (self.label_keys, starts, self.label_size),
        ):
            for key in keys:
                patches = cut(convert_to_numpy(data[key]), first, size)
                for sample, patch, start in zip(samples, patches, first, strict=True):
                    like_image = convert_to_dst_type(patch, data[key])[0]
                    sample[key] = with_first_voxel(like_image, data[key], start.tolist())
        return samples
