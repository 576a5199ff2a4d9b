"""Resampling of large images slab by slab, as MONAI does it whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any, Final

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Compose, Orientationd, Spacingd, SpatialResample
from monai.utils import get_equivalent_dtype

from nestseg_prep.transforms.load import LoadVolumed

LARGE: Final = 2**25
"""Voxels, before or after, above which an image is resampled in slabs."""
SLAB: Final = 2**22
"""Voxels that a slab reads or makes, about: MONAI takes some forty bytes for each."""
_MARGIN: Final = 2  # source voxels around what a slab reads: interpolation takes one


class SlabResample(SpatialResample):
    """MONAI's ``SpatialResample`` for the memory of a slab.

    At once it takes the image in float64 and three coordinates for each voxel that comes out: 7 GB
    for a CT of 512 × 512 × 1000 voxels at 1.5 mm. Here each slab of the result is resampled by
    MONAI from the part of the image that it needs, which gives the same values. Only ``bilinear``:
    where two voxels are equally near, rounding decides for MONAI, and would decide otherwise here.
    """

    def __call__(
        self,
        img: torch.Tensor,
        dst_affine: Any = None,
        spatial_size: Any = None,
        mode: Any = None,
        padding_mode: Any = None,
        align_corners: bool | None = None,
        dtype: Any = None,
        lazy: bool | None = None,
    ) -> torch.Tensor:
        """Resample ``(C, i, j, k)``; arguments and result are those of ``SpatialResample``."""
        how = {
            "mode": self.mode if mode is None else mode,
            "padding_mode": self.padding_mode if padding_mode is None else padding_mode,
            "align_corners": align_corners,
            "dtype": dtype,
        }
        lazy = self.lazy if lazy is None else lazy
        if lazy or not _in_slabs(img, dst_affine, spatial_size, how):
            whole: torch.Tensor = super().__call__(img, dst_affine, spatial_size, lazy=lazy, **how)
            return whole
        assert isinstance(img, MetaTensor)  # noqa: S101  _in_slabs saw to it
        source, target = tuple(img.shape[1:]), tuple(int(n) for n in spatial_size)
        there = np.asarray(dst_affine, np.float64)
        out = torch.empty((len(img), *target), dtype=torch.float32)
        planes = max(1, SLAB // max(math.prod(source) // target[0], math.prod(target[1:])))
        for start in range(0, target[0], planes):
            size = (min(planes, target[0] - start), *target[1:])
            corner = _moved(there, (start, 0, 0))
            box = _needed(np.linalg.solve(img.affine.numpy(), corner), size, source)
            part = MetaTensor(
                img.as_tensor()[(slice(None), *box)],
                affine=torch.from_numpy(_moved(img.affine.numpy(), [side.start for side in box])),
            )
            values = super().__call__(part, corner, size, **how)
            out[:, start : start + size[0]] = values.as_tensor()  # type: ignore[attr-defined]
        return self._recorded(out, img, there, how)

    def _recorded(
        self, out: torch.Tensor, img: MetaTensor, affine: Any, how: dict[str, Any]
    ) -> MetaTensor:
        """The result with the affine and the trace that MONAI gives it, by way of one voxel."""
        voxel: Any = MetaTensor(img.as_tensor()[:, :1, :1, :1])
        voxel.copy_meta_from(img)
        traced: Any = super().__call__(voxel, affine, (1, 1, 1), **how)
        result: Any = MetaTensor(out)
        result.copy_meta_from(traced)
        if result.applied_operations:
            result.applied_operations[-1]["orig_size"] = tuple(img.shape[1:])
        recorded: MetaTensor = result
        return recorded


def spare_memory(preprocessing: Compose) -> None:
    """Let every ``Spacingd`` of a preprocessing resample large images in slabs, from now on.

    Where nothing but a change of axes lies between a reader and the resampling, values of up to 16
    bits become float32 only there: an image is turned in half the memory, or a quarter.
    """
    steps = [step for step in preprocessing.transforms if not isinstance(step, Orientationd)]
    for reader, then in pairwise(steps):
        if isinstance(reader, LoadVolumed) and not preprocessing.lazy:
            reader.narrow = _takes_integers(then, reader.keys)
    for step in preprocessing.transforms:
        if (
            isinstance(step, Spacingd)
            and type(step.spacing_transform.sp_resample) is SpatialResample
        ):
            was = step.spacing_transform.sp_resample
            step.spacing_transform.sp_resample = SlabResample(
                was.mode, was.padding_mode, was.align_corners, was.dtype, was.lazy
            )


def _takes_integers(step: Any, keys: Sequence[Any]) -> bool:
    """Whether a step makes float32 of all keys, the same as it makes of float32."""
    return (
        type(step) is Spacingd
        and not step.lazy
        and set(keys) <= set(step.keys)
        and all(map(_is_floating, step.dtype))
    )


def _is_floating(dtype: Any) -> bool:
    """``None`` stands for the type of the values."""
    equivalent: Any = get_equivalent_dtype
    return dtype is not None and bool(equivalent(dtype, torch.Tensor).is_floating_point)


def _in_slabs(img: torch.Tensor, affine: Any, size: Any, how: dict[str, Any]) -> bool:
    return (
        isinstance(img, MetaTensor)
        and img.dim() == 4
        and img.device.type == "cpu"
        and not img.pending_operations
        and affine is not None
        and np.size(size) == 3
        and min(size) > 0
        and max(np.prod(img.shape[1:]), np.prod(size)) > LARGE
        and str(getattr(how["mode"], "value", how["mode"])) == "bilinear"
        and str(getattr(how["padding_mode"], "value", how["padding_mode"])) in {"border", "zeros"}
        and not how["align_corners"]
    )


def _needed(to_source: Any, size: Sequence[int], source: Sequence[int]) -> tuple[slice, ...]:
    """The box of source voxels that a slab is interpolated from, with a margin."""
    corners = np.array([(*index, 1) for index in product(*((0, n - 1) for n in size))])
    places = (to_source @ corners.T)[:3]
    box = []
    for low, high, n in zip(places.min(axis=1), places.max(axis=1), source, strict=True):
        first = min(max(int(np.floor(low)) - _MARGIN, 0), n - 1)
        box.append(slice(first, max(min(int(np.ceil(high)) + _MARGIN + 1, n), first + 1)))
    return tuple(box)


def _moved(affine: Any, by: Sequence[int]) -> Any:
    """The affine of a part that begins at a voxel."""
    moved = np.array(affine, np.float64)
    moved[:3, 3] += moved[:3, :3] @ np.asarray(by, np.float64)
    return moved
