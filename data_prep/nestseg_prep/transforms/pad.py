"""Mirror padding of any width, as a dictionary transform."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor

from nestseg_prep.padding import mirror_index, symmetric_padding
from nestseg_prep.transforms.place import with_first_voxel


def mirror_pad_tensor(x: Tensor, padding: Sequence[tuple[int, int]]) -> Tensor:
    """Mirror the last ``len(padding)`` axes of ``x``, as ``padding.mirror_pad`` does arrays."""
    first = x.dim() - len(padding)
    for dim, (before, after) in enumerate(padding, start=first):
        if before or after:
            index = torch.from_numpy(mirror_index(x.shape[dim], before, after))
            x = x.index_select(dim, index.to(x.device))
    return x


class MirrorPadd(MapTransform):
    """Mirror an image ``(C, *spatial)`` up to a spatial size, however small it is.

    MONAI's ``SpatialPadd(mode="reflect")`` fails where the padding is as wide as the image.

    Args:
        keys: images and labels to pad alike.
        spatial_size: the smallest size per spatial axis, in voxels; larger images are left alone.
        allow_missing_keys: as everywhere in MONAI.
    """

    def __init__(
        self, keys: KeysCollection, spatial_size: Sequence[int], allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.spatial_size = tuple(spatial_size)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Pad every key; the affine follows, so voxels keep their place in the patient."""
        d = dict(data)
        for key in self.key_iterator(d):
            image = d[key]
            padding = symmetric_padding(image.shape[1:], self.spatial_size)
            padded = mirror_pad_tensor(image, padding)
            d[key] = with_first_voxel(padded, image, [-before for before, _ in padding])
        return d
