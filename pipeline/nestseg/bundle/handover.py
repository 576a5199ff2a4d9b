"""The image that nestseg read, given to a bundle whose preprocessing begins with MONAI's LoadImage.

MONAI's readers would read the files again, and guess where they cannot know: they merge DICOM
series and make up affines. So its loaders get a reader that hands over what was read before. All
else that they do (channels, types, metadata) stays theirs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from monai.data.image_reader import ImageReader
from monai.transforms import Compose, LoadImage, LoadImaged, MapTransform

from nestseg_prep.errors import InputError
from nestseg_prep.transforms.load import LoadVolumed
from nestseg_prep.volume import Volume

_held: dict[str, Volume] = {}
_numbers: Final = itertools.count()


class VolumeReader(ImageReader):
    """A reader of MONAI's that finds volumes in memory, by the names that :func:`held` gives."""

    def verify_suffix(self, filename: Any) -> bool:
        """Take every name, so that no other reader looks for a file."""
        return True

    def read(self, data: Any, **kwargs: Any) -> Volume:
        """The volume of that name."""
        (name,) = data if isinstance(data, tuple) else (data,)
        return _held[name]

    def get_data(self, img: Any) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
        """Voxels, and what MONAI's own readers say of a NIfTI file."""
        affine = img.affine.copy()
        return img.image, {
            "affine": affine,
            "original_affine": affine.copy(),
            "spatial_shape": np.asarray(img.shape),
            "original_channel_dim": float("nan"),
            "space": "RAS",
        }


class Entrance:
    """Where an image goes into a preprocessing.

    Args:
        preprocessing: of a bundle; its loaders are told to take volumes from memory, and steps on
            other keys than the image's to let them be absent.
        channels: that the network takes.
        bundle: its name, for messages.

    Attributes:
        key: of the image; ``None`` for transforms of arrays.

    Raises:
        InputError: it does not begin with a loader that nestseg knows, or takes several images.
    """

    def __init__(self, preprocessing: Compose, channels: int, bundle: str) -> None:
        steps = list(_steps(preprocessing))
        loaders = [s for s in steps if isinstance(s, LoadVolumed | LoadImaged | LoadImage)]
        if not loaders:
            raise InputError(
                f"{bundle}: its preprocessing has no LoadImaged or LoadVolumed that the image "
                "could be given to; add one"
            )
        first = loaders[0]
        self._by_name = not isinstance(first, LoadVolumed)
        self.key: Any = None
        if not isinstance(first, LoadImage):
            keys = list(dict.fromkeys(key for s in loaders for key in getattr(s, "keys", ())))
            self.key = _image_key(keys, channels, bundle)
            _let_be_absent(steps, {key for key in keys if key != self.key})
        for loader in loaders:
            if not isinstance(loader, LoadVolumed):
                loader.register(VolumeReader())

    @contextmanager
    def given(self, volume: Volume) -> Iterator[Any]:
        """What the preprocessing takes to get the volume, for as long as the context lasts."""
        name = f"{next(_numbers)}/image.nii.gz"
        _held[name] = volume
        source: Any = name if self._by_name else volume
        try:
            yield source if self.key is None else {self.key: source}
        finally:
            del _held[name]


def _steps(preprocessing: Compose) -> Iterator[Any]:
    for step in preprocessing.transforms:
        if isinstance(step, Compose):
            yield from _steps(step)
        else:
            yield step


def _image_key(keys: Sequence[Any], channels: int, bundle: str) -> Any:
    if "image" in keys or len(keys) == 1:
        return "image" if "image" in keys else keys[0]
    if channels > 1:
        listed = ", ".join(map(str, keys))
        raise InputError(
            f"{bundle}: takes several images of a patient at once ({listed}), nestseg gives one; "
            "run it through `python -m monai.bundle run`"
        )
    return keys[0]


def _let_be_absent(steps: Sequence[Any], keys: set[Any]) -> None:
    """Labels, for instance, which a config of inference names although there are none."""
    for step in steps:
        if isinstance(step, MapTransform) and keys.intersection(step.keys):
            step.allow_missing_keys = True
