"""Elastic deformation as a dictionary transform."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_to_dst_type, convert_to_numpy, ensure_tuple_rep

from nestseg_prep.elastic import Field, deform, displacement_field, draw_control

_NEAREST = {"bilinear": False, "nearest": True}


class RandGridDeformd(RandomizableTransform, MapTransform):
    """Deform image and label alike by random displacements on a 3x3(x3) control grid.

    The elastic augmentation of Ronneberger et al. 2015, section 3.1; at ``sigma`` 0 it is the
    identity.

    Args:
        keys: images and labels ``(C, *spatial)`` of one spatial shape, 2D or 3D.
        sigma: standard deviation of the displacements in voxels; of each axis, or of all.
        prob: how often it acts.
        mode: ``"bilinear"`` or ``"nearest"`` (labels), per key or for all.
        allow_missing_keys: as everywhere in MONAI.

    Raises:
        ValueError: another mode.
    """

    def __init__(
        self,
        keys: KeysCollection,
        sigma: float | Sequence[float] = 10.0,
        prob: float = 1.0,
        mode: str | Sequence[str] = "bilinear",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.sigma = sigma
        self.mode = ensure_tuple_rep(mode, len(self.keys))
        if not set(self.mode) <= set(_NEAREST):
            raise ValueError(f"mode must be one of {', '.join(_NEAREST)}, got {mode!r}")
        self._control: Field = np.zeros(())

    def randomize(self, data: Any) -> None:
        """Draw; ``data`` is one of the images."""
        super().randomize(None)
        self._control = draw_control(self.R, self.sigma, data.ndim - 1)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Deform every key."""
        d = dict(data)
        first = next(iter(self.key_iterator(d)), None)
        if first is None:
            return d
        self.randomize(d[first])
        if not self._do_transform:
            return d
        field = displacement_field(self._control, d[first].shape[1:])
        for key, mode in self.key_iterator(d, self.mode):
            deformed = deform(convert_to_numpy(d[key]), field, nearest=_NEAREST[mode])
            d[key] = convert_to_dst_type(deformed, d[key])[0]
        return d
