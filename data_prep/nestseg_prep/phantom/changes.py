"""Changes that single kinds of odd series need; ``damage`` holds those that build on each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import PositronEmissionTomographyImageStorage

from nestseg_prep.phantom.damage import Damage, every, moved, setting
from nestseg_prep.phantom.series import Series, get_pixels, set_pixels


def two_steps(series: Series) -> Series:
    """The first slices of an axial stack at 2 mm, the others at 4 mm."""
    count = len(series)
    steps = np.where(np.arange(count - 1) < (count - 1) // 2, 2.0, 4.0)
    places = np.concatenate([[0.0], np.cumsum(steps)]) - 2.5 * np.arange(count)
    return moved(lambda number: (0, 0, places[number]))(series)


def tilted_and_uneven(series: Series) -> Series:
    """Two distances, and every slice sideways in proportion to its depth."""
    spread = two_steps(series)
    start = float(spread[0].ImagePositionPatient[2])
    depths = [float(ds.ImagePositionPatient[2]) - start for ds in spread]
    return moved(lambda number: (0, depths[number] * np.tan(np.radians(18.5)), 0))(spread)


def jitter(millimetres: float) -> Damage:
    """Each coordinate of each position is off by so much, one way or the other."""
    noise = np.random.default_rng(1).choice([-millimetres, millimetres], (12, 3))
    return moved(lambda number: noise[number])


def pet_slopes(series: Series) -> Series:
    """PET slices: each has a slope of its own."""
    result = every(setting(SOPClassUID=PositronEmissionTomographyImageStorage, Modality="PT"))(
        series
    )
    for number, ds in enumerate(result):
        ds.RescaleSlope, ds.RescaleIntercept = f"{0.25 + number / 8}", "0"
    return result


def garbage_above_bit_12(ds: Dataset) -> None:
    """Twelve bits are stored, the four above them hold something else."""
    ds.BitsStored, ds.HighBit = 12, 11
    set_pixels(ds, get_pixels(ds) | 0xA000)


def padded(ds: Dataset) -> None:
    """A frame of -2000 HU around the image, as CT scanners fill what they did not see."""
    values = get_pixels(ds).astype(int) - 1024
    values[:2], values[-2:], values[:, :2], values[:, -2:] = -2000, -2000, -2000, -2000
    ds.PixelRepresentation, ds.RescaleIntercept = 1, 0
    set_pixels(ds, values)
    ds.add_new("PixelPaddingValue", "SS", -2000)


def rounded_orientation(digits: int) -> Callable[[Dataset], None]:
    """Direction cosines with so many digits."""

    def change(ds: Dataset) -> None:
        ds.ImageOrientationPatient = [round(float(c), digits) for c in ds.ImageOrientationPatient]

    return change


def turned(ds: Dataset) -> None:
    """Rows and columns change places."""
    ds.ImageOrientationPatient = [0, 1, 0, 1, 0, 0]


def fewer_rows(ds: Dataset) -> None:
    """An image of twenty rows."""
    set_pixels(ds, get_pixels(ds)[:20])
    ds.Rows = 20


def in_colour(ds: Dataset) -> None:
    """A black picture of three samples a pixel."""
    ds.SamplesPerPixel, ds.PlanarConfiguration, ds.PhotometricInterpretation = 3, 0, "RGB"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PixelData = bytes(ds.Rows * ds.Columns * 3)
    ds["PixelData"].VR = "OB"


def lookup_table(ds: Dataset) -> None:
    """True values stand in a table instead of slope and intercept."""
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [2, 0, 16], "US"
    table.add_new("LUTData", "US", [0, 1])
    ds.ModalityLUTSequence = DicomSequence([table])
