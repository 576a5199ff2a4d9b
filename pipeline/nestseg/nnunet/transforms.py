"""nnU-Net's preprocessing and its way back, as MONAI transforms.

The order is nnU-Net's: axes, crop, normalisation, resampling. Arrays are laid out in memory as
nnU-Net's are, since a float32 mean depends on the order of its sum.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final, Literal, get_args

import nibabel as nib
import numpy as np
import numpy.typing as npt
import torch
from monai.config import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from scipy import ndimage
from torch import Tensor

from nestseg.nnunet.resampling import Resampling, new_shape
from nestseg_prep.errors import InputError

Orientation = Literal["file", "RAS", "LPS"]
Array = npt.NDArray[Any]
_AXES: Final[Any] = nib.orientations  # not annotated
_EPSILON: Final = 1e-8
_FLOAT32: Final = 6.1e-8  # half a step of float32, relative


class NnUNetPreprocessd(MapTransform, InvertibleTransform):
    """Prepare an image as nnU-Net v2 does, and take label maps back to it.

    ``(C, i, j, k)`` with its affine becomes ``(C, z, y, x)``, float32: the axes reversed and in the
    plans' order, cropped to what is not zero, normalised, and resampled. The inverse takes a label
    map on the cropped voxels (:class:`~nestseg.nnunet.NnUNetInferer`) to the voxels of the image,
    with 0 around the crop.

    Args:
        keys: of the image.
        spacing: in mm, of the network's grid; two numbers for a network of slices.
        transpose: which axis of ``(z, y, x)`` comes first, second and third.
        normalization: of each channel: ``{"scheme": "CTNormalization", "mean": …, "std": …,
            "low": …, "high": …}``, or another of nnU-Net's schemes, with ``"masked": True`` where
            it looks at nonzero voxels alone.
        resampling: of the image, as the plans say.
        orientation: how the voxels of the training files lay: ``"RAS"`` or ``"LPS"`` turns the
            image there, ``"file"`` takes it in the order of its file (of a DICOM series: in the
            order that dcm2niix writes).
        previous: key of the label map of a cascade's first stage, ``(1, i, j, k)`` on the voxels of
            the image; its labels follow the channels, one-hot.
        previous_labels: their values.
        previous_resampling: of that label map.
    """

    def __init__(  # noqa: PLR0913  one argument for each of the plans
        self,
        keys: KeysCollection,
        *,
        spacing: Sequence[float],
        normalization: Sequence[Mapping[str, Any]],
        transpose: Sequence[int] = (0, 1, 2),
        resampling: Resampling | None = None,
        orientation: Orientation = "file",
        previous: Hashable | None = None,
        previous_labels: Sequence[int] = (),
        previous_resampling: Resampling | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if orientation not in get_args(Orientation):
            raise ValueError(f"orientation {orientation!r}: give one of {get_args(Orientation)}")
        unknown = [one["scheme"] for one in normalization if one["scheme"] not in _SCHEMES]
        if unknown:
            raise ValueError(f"normalization {unknown[0]!r}: give one of {', '.join(_SCHEMES)}")
        self.spacing = tuple(spacing)
        self.transpose = tuple(transpose)
        self.normalization = tuple(normalization)
        self.resampling = resampling or Resampling()
        self.orientation = orientation
        self.previous = previous
        self.previous_labels = tuple(previous_labels)
        self.previous_resampling = previous_resampling or Resampling(order=1)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Prepare every key.

        Raises:
            InputError: the image has another number of channels than the network takes.
        """
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self._prepared(d[key], None if self.previous is None else d[self.previous])
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Take label maps ``(1, *cropped)`` back to the voxels of the image.

        Raises:
            ValueError: a label map lies on another grid than the cropped image.
        """
        d = dict(data)
        for key in self.key_iterator(d):
            record = self.pop_transform(d[key])["extra_info"]
            if tuple(d[key].shape[1:]) != tuple(record["shape"]):
                raise ValueError(f"{tuple(d[key].shape[1:])} voxels, expected {record['shape']}")
            labels = d[key].as_tensor()
            whole = labels.new_zeros((len(labels), *record["whole"]))
            box = (slice(low, high) for low, high in record["box"])
            whole[(slice(None), *box)] = labels
            order = [1 + self.transpose.index(axis) for axis in (2, 1, 0)]
            turned = _AXES.apply_orientation(
                whole.permute(0, *order).movedim(0, -1).cpu().numpy(), np.asarray(record["back"])
            )
            back = torch.from_numpy(np.ascontiguousarray(np.moveaxis(turned, -1, 0)))
            d[key] = MetaTensor(back, meta=d[key].meta)
            d[key].affine = torch.as_tensor(record["affine"], dtype=torch.float64)
        return d

    def _prepared(self, image: MetaTensor, previous: Any) -> MetaTensor:
        if len(image) != len(self.normalization):
            raise InputError(
                f"the network takes {len(self.normalization)} channels, the image has "
                f"{len(image)}; give it images with all channels"
            )
        affine = image.affine.numpy()
        there, back = _turns(affine, image.shape[1:], self.orientation)
        turned = affine @ _AXES.inv_ornt_aff(there, image.shape[1:])
        array = self._laid(image, there)
        spacing = [_spacing(turned[:3, axis]) for axis in (2, 1, 0)]
        spacing = [spacing[axis] for axis in self.transpose]
        whole = array.shape[1:]
        filled = any(one.get("masked") for one in self.normalization) or previous is not None
        mask, box = _nonzero(array, filled=filled)
        array, mask = array[(slice(None), *box)], mask[box]
        network_spacing = [*spacing[: 3 - len(self.spacing)], *self.spacing]
        shape = new_shape(array.shape[1:], spacing, network_spacing)
        for channel, scheme in zip(array, self.normalization, strict=True):
            _SCHEMES[scheme["scheme"]](channel, scheme, mask if scheme.get("masked") else None)
        cropped = array.shape[1:]
        array = self.resampling.resize(array, shape, spacing, network_spacing)
        if previous is not None:
            labels = self._laid(previous, there)[0][box]
            labels = np.where((labels == 0) & ~mask, -1, labels)
            labels = self.previous_resampling.resize_labels(labels, shape, spacing, network_spacing)
            hot = [labels == value for value in self.previous_labels]
            array = np.concatenate([array, np.stack(hot).astype(np.float32)])
        out = MetaTensor(torch.from_numpy(np.ascontiguousarray(array)), meta=image.meta)
        out.applied_operations = list(image.applied_operations)
        push: Any = self.push_transform
        push(
            out,
            extra_info={
                "box": [[side.start, side.stop] for side in box],
                "whole": list(whole),
                "shape": list(cropped),
                "spacing": spacing,
                "network_spacing": network_spacing,
                "back": back.tolist(),
                "affine": affine.tolist(),
            },
        )
        out.affine = torch.from_numpy(self._affine(turned, box, cropped, out.shape[1:]))
        return out

    def _laid(self, image: Tensor, there: Array) -> Array:
        """``(C, z, y, x)`` in the plans' order, float32, in memory as nnU-Net has it."""
        turned = _AXES.apply_orientation(np.moveaxis(image.numpy(), 0, -1), there)
        array = np.array(turned.transpose(3, 2, 1, 0), np.float32, order="C")
        return array.transpose(0, *(1 + axis for axis in self.transpose))

    def _affine(
        self, affine: Array, box: Sequence[slice], cropped: Sequence[int], shape: Sequence[int]
    ) -> Array:
        """Where the voxels of the network's grid lie."""
        step = np.zeros((4, 4))
        step[3, 3] = 1
        for axis, (side, n, m) in enumerate(zip(box, cropped, shape, strict=True)):
            here = 2 - self.transpose[axis]
            step[here, axis] = n / m
            step[here, 3] = side.start + (n / m - 1) / 2
        return np.asarray(affine @ step)


class KeepLargestComponentsd(MapTransform):
    """nnU-Net's postprocessing: of some labels together, keep the largest connected piece.

    Args:
        keys: of label maps ``(1, i, j, k)``.
        groups: labels of each rule, applied one after the other.
    """

    def __init__(self, keys: KeysCollection, groups: Sequence[Sequence[int]]) -> None:
        super().__init__(keys)
        self.groups = [list(group) for group in groups]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Set all other pieces to 0; voxels that share a corner hang together."""
        d = dict(data)
        for key in self.key_iterator(d):
            labels = d[key].clone()
            for group in self.groups:
                inside = torch.isin(labels[0], torch.tensor(group)).cpu().numpy()
                pieces, count = ndimage.label(inside, np.ones((3, 3, 3)))
                if count > 1:
                    sizes = np.bincount(pieces.ravel())[1:]
                    small = 1 + np.flatnonzero(sizes < sizes.max())
                    labels[0][torch.from_numpy(np.isin(pieces, small)).to(labels.device)] = 0
            d[key] = labels
        return d


def _turns(affine: Array, shape: Sequence[int], orientation: Orientation) -> tuple[Array, Array]:
    """Orientations in nibabel's form that turn an image there, and back."""
    here = _AXES.io_orientation(affine)
    wanted = here if orientation == "file" else _AXES.axcodes2ornt(tuple(orientation))
    return (
        _AXES.ornt_transform(here, wanted),
        _AXES.ornt_transform(wanted, here),
    )


def _spacing(column: Array) -> float:
    """The spacing that a NIfTI header of the image says.

    A column of an affine in float32 has it with the rounding of three numbers; sizes and ties of
    resampling turn on the number that was written, which is nearly always a short one.
    """
    length = float(np.linalg.norm(column))
    shorter = (float(f"{length:.{digits}g}") for digits in range(2, 9))
    return float(
        np.float32(next((n for n in shorter if abs(n - length) <= _FLOAT32 * length), length))
    )


def _nonzero(array: Array, *, filled: bool) -> tuple[Array, tuple[slice, ...]]:
    """Where any channel is not zero, holes filled if that is asked for, and the box around it.

    Filling holes takes long on a large image, and does not change the box.
    """
    mask = (array != 0).any(axis=0)
    boxes = ndimage.find_objects(mask.view(np.uint8))
    box = boxes[0] if boxes else tuple(slice(0, n) for n in mask.shape)
    return (ndimage.binary_fill_holes(mask) if filled else mask), box


def _z_score(image: Array, _: Mapping[str, Any], mask: Array | None) -> None:
    if mask is None:
        mean, std = image.mean(), image.std()
        image -= mean
        image /= max(std, _EPSILON)
        return
    inside = image[mask]
    image[mask] = (inside - inside.mean()) / max(inside.std(), _EPSILON)


def _ct(image: Array, scheme: Mapping[str, Any], _: Array | None) -> None:
    np.clip(image, scheme["low"], scheme["high"], out=image)
    image -= scheme["mean"]
    image /= max(scheme["std"], _EPSILON)


def _rescale(image: Array, _: Mapping[str, Any], __: Array | None) -> None:
    image -= image.min()
    image /= np.clip(image.max(), a_min=_EPSILON, a_max=None)


def _rgb(image: Array, _: Mapping[str, Any], __: Array | None) -> None:
    if image.min() < 0 or image.max() > 255:
        raise InputError("values of a colour image must be 0 to 255; check what the image is")
    image /= 255.0


def _unchanged(_: Array, __: Mapping[str, Any], ___: Array | None) -> None:
    """The image as it is."""


_SCHEMES: Final[dict[str, Callable[[Array, Mapping[str, Any], Array | None], None]]] = {
    "ZScoreNormalization": _z_score,
    "CTNormalization": _ct,
    "NoNormalization": _unchanged,
    "RescaleTo01Normalization": _rescale,
    "RGBTo01Normalization": _rgb,
}
SCHEMES: Final = tuple(_SCHEMES)
"""Names of the normalisations that nnU-Net's plans may hold."""
