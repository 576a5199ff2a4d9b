"""The border weight map as a dictionary transform."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, convert_to_numpy

from nestseg_prep.weight_map import separate_touching, weight_map


class BorderWeightd(MapTransform):
    """Turn instances into the U-Net's training target: cell or background, and a weight.

    Touching instances get a gap of background first. Put it behind whatever deforms or crops, so
    that borders have their weight in the patch that is trained on;
    ``nestseg.losses.BorderWeightedCELoss`` takes the result.

    Args:
        keys: instances ``(1, *spatial)``, 0 for background, 2D or 3D, whole numbers of any dtype;
            become ``(2, *spatial)`` float32: class 0 or 1, and weight.
        w0: weight where two cells all but touch.
        sigma: its fall-off, in voxels.
        allow_missing_keys: as everywhere in MONAI.
    """

    def __init__(
        self,
        keys: KeysCollection,
        w0: float = 10.0,
        sigma: float = 5.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.w0 = w0
        self.sigma = sigma

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Weigh every key."""
        d = dict(data)
        for key in self.key_iterator(d):
            instances = separate_touching(convert_to_numpy(d[key])[0].astype(np.int64))
            weight = weight_map(instances, w0=self.w0, sigma=self.sigma)
            target = np.stack([(instances != 0).astype(np.float32), weight])
            d[key] = convert_to_dst_type(target, d[key], dtype=np.float32)[0]
        return d
