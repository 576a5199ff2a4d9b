"""Reading by the strict readers, as a dictionary transform."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms import MapTransform

from nestseg_prep.dicom.findings import Code
from nestseg_prep.dicom.references import SeriesRef
from nestseg_prep.dicom.scan import scan
from nestseg_prep.errors import InputError
from nestseg_prep.images import series_at
from nestseg_prep.on_grid import labels_on, same_grid
from nestseg_prep.picture import SUFFIXES, read_picture
from nestseg_prep.reading import read_file, read_volume
from nestseg_prep.volume import Volume

_NARROW = (np.uint8, np.int16)  # half of float32's bytes or less, and types that torch can flip


class LoadVolumed(MapTransform):
    """Read a NIfTI file or a DICOM series by the strict readers of the prep stage.

    MONAI's own readers merge or drop DICOM series without a word; these refuse with a reason. The
    value under each key is a path (a NIfTI file, a picture, or a folder that holds exactly one
    acceptable series), a ``SeriesRef`` from a scan, or a ``Volume`` that was read before. It
    becomes a float32 ``MetaTensor`` ``(1, i, j, k)`` of true values whose affine maps voxels to RAS
    mm; where a scanner saw nothing stands the lowest value of the image. A list of such values
    holds the channels of one image, which must lie on one grid: ``(C, i, j, k)``.

    The keys behind the first hold label maps. One on another grid than the first (cropped, turned,
    or with other spacings, as label servers return them) is laid on it, voxel by voxel the nearest,
    0 outside: as it is it would be trained on at the wrong place without a word.

    Attributes:
        narrow: whether uint8 and int16 stay as they are, in place of float32: for a resampling that
            follows (:func:`nestseg_prep.transforms.resample.spare_memory`).
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.narrow = False

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Read every key.

        Raises:
            InputError: a file or series that cannot be trusted; one line, with the remedy.
        """
        d = dict(data)
        first: Volume | None = None
        for key in self.key_iterator(d):
            channels = _channels(d[key])
            volume, name = channels[0]
            first = first or volume
            if not same_grid(volume, first):
                volume = labels_on(volume, first)
            affine = torch.from_numpy(volume.affine)
            images = [volume.image, *(other.image for other, _ in channels[1:])]
            kinds = {image.dtype for image in images}
            kept = self.narrow and len(kinds) == 1 and kinds <= {np.dtype(one) for one in _NARROW}
            kind = images[0].dtype if kept else np.float32
            array = np.empty((len(images), *volume.shape), kind)
            for channel, image in zip(array, images, strict=True):
                channel[...] = image
            d[key] = MetaTensor(
                torch.from_numpy(array),
                affine=affine,
                meta={
                    "filename_or_obj": name,
                    "original_affine": affine.clone(),
                    "spatial_shape": np.asarray(array.shape[1:]),
                    "original_channel_dim": float("nan"),
                    "space": "RAS",
                },
            )
        return d


def _channels(source: Any) -> list[tuple[Volume, str]]:
    """The channels of an image.

    Raises:
        InputError: one lies on another grid than the first.
    """
    read = [_read(one) for one in (source if isinstance(source, list | tuple) else [source])]
    for volume, name in read[1:]:
        if not same_grid(volume, read[0][0]):
            raise InputError(
                f"{Path(name).name}: lies on another grid than the first channel; resample it to "
                "that grid"
            )
    return read


def _read(source: str | Path | SeriesRef | Volume) -> tuple[Volume, str]:
    if isinstance(source, Volume):
        return source, ""
    if isinstance(source, SeriesRef):
        return read_volume(source), _name(source)
    path = Path(source)
    if path.is_file() and any(
        one.finding.code is Code.RESULT for one in scan(path, pictures=True).others
    ):
        # A mask that nestseg wrote is not an image in a folder; asked for by name, it is a label.
        read = read_picture if path.suffix.lower() in SUFFIXES else read_file
        return read(path), str(path)
    ref = series_at(path)
    return read_volume(ref), _name(ref)


def _name(ref: SeriesRef) -> str:
    """What an output is named after: the file of an image, the key of a DICOM series.

    The names of hospital files may hold patient data.
    """
    first = ref.files[0]
    return str(first.parent / ref.key if ref.kind == "dicom" else first)
