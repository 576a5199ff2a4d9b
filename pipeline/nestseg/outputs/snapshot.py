"""A case in a few hundred kilobytes: what a report shows of it after its image is gone.

One ZIP file a case, ``image.nii.gz`` and ``mask.nii.gz`` on a coarser grid, ``planes.webp`` and
``labels.json``. The same case gives the same bytes.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from PIL import Image

from nestseg.outputs import coarse
from nestseg.outputs.planes import COLOURS, draw_planes, window
from nestseg_prep.volume import Volume

_HEIGHT = 160  # of a plane in pixels
_QUALITY = 85
_GAP = 2
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
_IMAGE: Any = nib.Nifti1Image  # nibabel annotates only part of itself
_orientations: Any = nib.orientations


@dataclass(frozen=True)
class Label:
    """A structure: its value in the mask, its name, its colour as RGB."""

    value: int
    name: str
    colour: tuple[int, int, int]


@dataclass(frozen=True)
class Snapshot:
    """What a report shows of a case.

    Attributes:
        image: gzipped NIfTI of uint8 along RAS+ axes, whose slope and intercept give true values
            within a window.
        mask: gzipped NIfTI of uint8 on the same grid; the place of each label, from 1.
        planes: WebP with the three planes side by side.
        labels: in the order of their places.
        steps: how many source voxels one voxel stands for, along ``(i, j, k)``.
    """

    image: bytes
    mask: bytes
    planes: bytes
    labels: tuple[Label, ...]
    steps: tuple[int, int, int]

    def write(self, path: Path) -> None:
        """Write a new file, sync it, read it back and compare.

        Raises:
            OSError: it cannot be written, or is there.
        """
        with path.open("xb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for name, content in (
                    ("image.nii.gz", self.image),
                    ("mask.nii.gz", self.mask),
                    ("planes.webp", self.planes),
                    ("labels.json", self._about()),
                ):
                    archive.writestr(zipfile.ZipInfo(name, _LONG_AGO), content)
            file.flush()
            os.fsync(file.fileno())
        if read_snapshot(path) != self:
            raise OSError(f"{path.name}: read back otherwise than written")

    def _about(self) -> bytes:
        labels = [
            {"value": label.value, "name": label.name, "colour": label.colour}
            for label in self.labels
        ]
        return json.dumps({"labels": labels, "steps": self.steps}, indent=1).encode()


def snapshot(image: Volume, mask: Volume, labels: dict[int, str]) -> Snapshot:
    """Make the snapshot of a case; needs little more memory than the case itself.

    Args:
        image: true values; those outside the 1st to the 99th percentile are cut off.
        mask: label map on the grid of ``image``.
        labels: value → name.
    """
    steps = coarse.steps(image.shape, image.spacing)
    affine = coarse.affine(image.affine, steps)
    low, high = window(image)
    slope = max(high - low, 1e-6) / 255
    means = coarse.means(image.array, steps)
    shades = np.clip(np.rint((means - low) / slope), 0, 255).astype(np.uint8)
    places = coarse.labels(mask.array, steps, list(labels))
    return Snapshot(
        image=_nifti(shades, affine, slope, low),
        mask=_nifti(places, affine, 1.0, 0.0),
        planes=_strip(image, mask, labels),
        labels=tuple(
            Label(value, name, COLOURS[place % len(COLOURS)])
            for place, (value, name) in enumerate(labels.items())
        ),
        steps=steps,
    )


def read_snapshot(path: Path) -> Snapshot:
    """Read what :meth:`Snapshot.write` wrote.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            about = json.loads(archive.read("labels.json"))
            return Snapshot(
                image=archive.read("image.nii.gz"),
                mask=archive.read("mask.nii.gz"),
                planes=archive.read("planes.webp"),
                labels=tuple(
                    Label(int(one["value"]), str(one["name"]), tuple(one["colour"]))
                    for one in about["labels"]
                ),
                steps=tuple(about["steps"]),
            )
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path.name}: a damaged snapshot; segment the case again") from error


def _nifti(
    array: npt.NDArray[np.uint8], affine: npt.NDArray[np.float64], slope: float, low: float
) -> bytes:
    turn = _orientations.io_orientation(affine)
    affine = affine @ _orientations.inv_ornt_aff(turn, array.shape)
    image = _IMAGE(_orientations.apply_orientation(array, turn), affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(slope, low)
    image.header["cal_min"], image.header["cal_max"] = low, low + 255 * slope
    return gzip.compress(image.to_bytes(), compresslevel=3, mtime=0)


def _strip(image: Volume, mask: Volume, labels: dict[int, str]) -> bytes:
    """The planes side by side, axial first: it is the one that people read."""
    planes = draw_planes(image, mask, labels, _HEIGHT, line=1)[::-1]
    width = sum(plane.picture.width + _GAP for plane in planes) - _GAP
    strip = Image.new("RGB", (width, _HEIGHT))
    left = 0
    for plane in planes:
        strip.paste(plane.picture, (left, 0))
        left += plane.picture.width + _GAP
    stream = io.BytesIO()
    strip.save(stream, "WEBP", quality=_QUALITY, method=4)
    return stream.getvalue()
