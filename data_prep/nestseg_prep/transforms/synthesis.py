"""Images of random contrast, synthesised from label maps of whole heads.

Billot et al. 2023 (SynthSeg, Medical Image Analysis 86, 102789): a network that only ever sees
images of random contrast and resolution learns the shapes, and then takes scans of any contrast.
Here an image is drawn on the grid that the network works on, straight from the finer map, so that
each voxel of the map is read at most once: their way, in full resolution and resampled afterwards,
computes eight voxels where the network sees one.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable
from monai.transforms.utils import create_rotate, create_scale, create_shear
from torch import Tensor
from torch.nn import functional

from nestseg_prep.errors import InputError

ROTATION: Final = 0.35
"""Largest turn about each axis, in radians: 20 degrees."""
SCALING: Final = 0.15
"""Largest change of size along each axis."""
SHEARING: Final = 0.02
ELASTIC_MM: Final = 4.0
"""Largest standard deviation of the elastic displacements."""
BLUR: Final = (0.2, 0.9)
"""Least and largest standard deviation of the blur, in voxels of the image."""
THICKEST: Final = 4.0
"""The thickest slices, in voxels of the image."""
BIAS: Final = 0.4
"""Largest standard deviation of the logarithm of the bias field."""
STRIPPED, THICK, MIRRORED, TYPICAL, DARK_AIR = 0.3, 0.4, 0.5, 0.5, 0.8
"""How often the skull is absent, slices are thick, the head is mirrored, the contrast is near the
typical one, and the air is black."""


class RandImageFromLabelsd(Randomizable, MapTransform):
    """Cut a random patch out of a label map, deform it and paint an image of random contrast on it.

    The map stays under its key, as the classes to learn; the image is put beside it. Each structure
    gets a random brightness and noise, a structure and its mirror image the same. Map and image are
    turned, scaled, sheared, deformed and mirrored, left becoming right; the image is blurred, has
    thick slices along one axis or not, a bias field, a random gamma, and sometimes no skull.

    Args:
        keys: the label map ``(1, *spatial)`` of integers, in 3D, first axis from left to right.
        structures: for each structure, the values of the map that make it up; the first is the air
            around the head.
        classes: how many of the structures are learnt; the others become 0, like the air.
        inside: how many of the structures lie in the brain; the others go when the skull does.
        pairs: a structure on the left and its mirror image.
        size: shape of the patch in voxels.
        step: voxels of the map for one of the patch.
        brightness: of each structure in a typical contrast, from 0 to 1; ``None`` where there is
            none. Half of the images are near it, the others are drawn freely.
        image_key: where the image goes.

    Raises:
        ValueError: ``brightness`` has not one entry for each structure.
    """

    def __init__(  # noqa: PLR0913  what a map means takes several lists
        self,
        keys: KeysCollection,
        structures: Sequence[Sequence[int]],
        *,
        classes: int,
        inside: int,
        pairs: Sequence[Sequence[int]],
        size: Sequence[int],
        step: float,
        brightness: Sequence[float | None],
        image_key: str = "image",
    ) -> None:
        super().__init__(keys)
        if len(brightness) != len(structures):
            raise ValueError(f"{len(structures)} structures, {len(brightness)} of brightness")
        self.classes, self.inside = classes, inside
        self.size, self.step, self.image_key = tuple(size), step, image_key
        self.brightness = np.array([np.nan if b is None else b for b in brightness])
        self.numbers = structure_numbers(structures)
        self.mirror = np.arange(len(structures))
        self.first = self.mirror.copy()  # of a pair: whose brightness both get
        for left, right in pairs:
            self.mirror[[left, right]] = right, left
            self.first[right] = left

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Draw a patch and its image.

        Returns:
            ``data`` with an image and a label, float32 ``(1, *size)``.

        Raises:
            InputError: the map has a value that belongs to no structure.
        """
        d = dict(data)
        for key in self.key_iterator(d):
            found = self._patch(torch.as_tensor(d[key])[0])
            d[self.image_key] = self._image(found)[None]
            d[key] = torch.where(found < self.classes, found, 0).float()[None]
        return d

    def _patch(self, label_map: Tensor) -> Tensor:
        """The numbers of the structures in a random patch, ``size``."""
        low, high = np.array(label_map.shape) * 0.35, np.array(label_map.shape) * 0.65
        matrix = torch.from_numpy(self._matrix() * self.step).float()
        field = self._smooth(5, self.R.uniform(0, ELASTIC_MM), vectors=3)
        values = read_at(label_map, matrix, self.R.uniform(low, high), field)
        found: Tensor = self.numbers[values.clamp(0, len(self.numbers) - 1)]
        wrong = values[(found < 0) | (values >= len(self.numbers)) | (values < 0)]
        if len(wrong):
            raise InputError(f"{int(wrong[0])} in a label map is no structure; add it to the list")
        if self.R.random() < MIRRORED:
            found = torch.from_numpy(self.mirror)[found].flip(0)
        return found

    def _matrix(self) -> Any:
        turn = create_rotate(3, self.R.uniform(-ROTATION, ROTATION, 3).tolist())
        shear = create_shear(3, self.R.uniform(-SHEARING, SHEARING, 6).tolist())
        scale = create_scale(3, self.R.uniform(1 - SCALING, 1 + SCALING, 3).tolist())
        return (np.asarray(turn) @ np.asarray(shear) @ np.asarray(scale))[:3, :3]

    def _image(self, found: Tensor) -> Tensor:
        means, deviations = self._contrast()
        random = torch.Generator().manual_seed(int(self.R.randint(2**31)))
        image = torch.randn(found.shape, generator=random)
        image = torch.from_numpy(means)[found] + torch.from_numpy(deviations)[found] * image
        image = blurred(image, self.R.uniform(*BLUR, 3).tolist())
        if self.R.random() < THICK:
            image = with_thick_slices(image, self.R.randint(3), self.R.uniform(1, THICKEST))
        image = image * self._smooth(4, self.R.uniform(0, BIAS), vectors=1)[0].exp()
        low, high = image.min(), image.max()
        return ((image - low) / (high - low + 1e-6)) ** float(np.exp(self.R.normal(0, 0.25)))

    def _contrast(self) -> tuple[Any, Any]:
        """Brightness and noise of every structure, float32."""
        count = len(self.first)
        means = self.R.uniform(0, 1, count)
        deviations = self.R.uniform(0.01, 0.1, count)
        near = self.brightness + self.R.normal(0, 0.06, count)
        if self.R.random() < TYPICAL:
            means = np.where(np.isnan(near), means, near)
        means, deviations = means[self.first], deviations[self.first]
        stripped, dark = self.R.random() < STRIPPED, self.R.random() < DARK_AIR
        if stripped:
            means[self.inside :] = deviations[self.inside :] = 0
        if stripped or dark:
            means[0], deviations[0] = 0, deviations[0] * (not stripped) / 4
        return means.astype(np.float32), deviations.astype(np.float32)

    def _smooth(self, points: int, deviation: float, *, vectors: int) -> Tensor:
        """A smooth random field ``(vectors, *size)``."""
        coarse = self.R.normal(0, deviation, (1, vectors, *(points,) * 3)).astype(np.float32)
        field: Tensor = functional.interpolate(
            torch.from_numpy(coarse), self.size, mode="trilinear", align_corners=True
        )
        return field[0]


def structure_numbers(structures: Sequence[Sequence[int]]) -> Tensor:
    """By the values of a map, the number of the structure that each belongs to; -1 for none."""
    numbers = torch.full((max(map(max, structures)) + 1,), -1)
    for number, values in enumerate(structures):
        numbers[list(values)] = number
    return numbers


def read_at(label_map: Tensor, matrix: Tensor, centre: Any, field: Tensor) -> Tensor:
    """Read a map, voxel by voxel the nearest, where a moved and deformed patch lies.

    Args:
        label_map: ``(i, j, k)``.
        matrix: ``(3, 3)``, from steps in the patch to steps in the map.
        centre: of the patch, in voxels of the map.
        field: displacements ``(3, *size)`` in voxels of the map.

    Returns:
        int64, ``size``; 0 outside of the map.
    """
    size = field.shape[1:]
    steps = [torch.arange(n) - (n - 1) / 2 for n in size]
    index = torch.zeros(size, dtype=torch.int64)
    inside = torch.ones(size, dtype=torch.bool)
    for axis, length in enumerate(label_map.shape):
        i, j, k = (row * step for row, step in zip(matrix[axis], steps, strict=True))
        place = field[axis] + (i[:, None, None] + j[:, None] + (k + float(centre[axis])))
        nearest = place.round_().long()
        inside &= (nearest >= 0) & (nearest < length)
        index = index * length + nearest.clamp_(0, length - 1)
    return torch.where(inside, label_map.reshape(-1)[index], 0).long()


def blurred(image: Tensor, deviations: Sequence[float]) -> Tensor:
    """Blur an image ``(i, j, k)`` by a Gaussian, given its standard deviations in voxels."""
    for axis, deviation in enumerate(deviations):
        reach = max(1, round(3 * deviation))
        kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / deviation) ** 2)
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = -1
        padding = [0, 0, 0]
        padding[axis] = reach
        weight = (kernel / kernel.sum()).reshape(shape)
        image = functional.conv3d(image[None, None], weight, padding=padding)[0, 0]
    return image


def with_thick_slices(image: Tensor, axis: int, thickness: float) -> Tensor:
    """As slices of a thickness in voxels would show an image ``(i, j, k)``, on the same grid."""
    size = list(image.shape)
    size[axis] = max(1, round(size[axis] / thickness))
    slices = functional.interpolate(image[None, None], size, mode="area")
    spread: Tensor = functional.interpolate(slices, list(image.shape), mode="trilinear")
    return spread[0, 0]
