"""Instances from a mask, as a dictionary transform."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, convert_to_numpy
from scipy import ndimage


class Instancesd(MapTransform):
    """Number the connected parts of a mask: 1, 2, … in the order of their first voxel.

    Neighbours share a face. ``BorderWeightd`` takes the result.

    Args:
        keys: masks ``(1, *spatial)``; what is not 0 is foreground.
        allow_missing_keys: as everywhere in MONAI.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Number every key; the dtype stays."""
        d = dict(data)
        for key in self.key_iterator(d):
            parts, _ = ndimage.label(convert_to_numpy(d[key])[0] != 0)
            d[key] = convert_to_dst_type(parts[None].astype(np.float32), d[key])[0]
        return d
