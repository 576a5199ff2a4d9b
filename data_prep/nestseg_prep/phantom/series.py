"""A clean synthetic CT or MR series as DICOM data sets, with known truth."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import UID, CTImageStorage, MRImageStorage

from nestseg_prep import affine as affines
from nestseg_prep.volume import Volume

Plane: TypeAlias = Literal["axial", "coronal", "sagittal", "oblique"]
Series: TypeAlias = list[Dataset]
Vector: TypeAlias = npt.NDArray[np.float64]


def _turned(degrees_x: float, degrees_z: float) -> tuple[Vector, Vector]:
    """Axial row and column directions turned about x, then about z."""
    (cx, sx), (cz, sz) = (
        (np.cos(angle), np.sin(angle)) for angle in np.radians([degrees_x, degrees_z])
    )
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    turn = about_z @ about_x
    return turn[:, 0], turn[:, 1]


# Row and column directions in LPS, as scanners write them.
PLANES: Final[dict[Plane, tuple[Vector, Vector]]] = {
    "axial": (np.array([1.0, 0, 0]), np.array([0, 1.0, 0])),
    "coronal": (np.array([1.0, 0, 0]), np.array([0, 0, -1.0])),
    "sagittal": (np.array([0, 1.0, 0]), np.array([0, 0, -1.0])),
    "oblique": _turned(50.0, 20.0),
}


@dataclass(frozen=True)
class Phantom:
    """A clean series.

    Attributes:
        plane: how the slices lie.
        modality: ``"CT"`` values are stored with an offset of 1024, ``"MR"`` as they are.
        columns: voxels along a row of the image.
        rows: voxels along a column of it.
        slices: number of slices.
        between_columns: mm.
        between_rows: mm.
        between_slices: mm.
        origin: LPS mm of the first voxel of the first slice.
        name: seed of all UIDs: another name is another series, the same name the same.
        study: seed of the study's UIDs.
    """

    plane: Plane = "axial"
    modality: Literal["CT", "MR"] = "CT"
    columns: int = 32
    rows: int = 24
    slices: int = 12
    between_columns: float = 0.7
    between_rows: float = 0.8
    between_slices: float = 2.5
    origin: tuple[float, float, float] = (-12.3, 31.7, -105.25)
    name: str = "phantom"
    study: str = "study"

    @property
    def values(self) -> npt.NDArray[np.int16]:
        """``(columns, rows, slices)`` true values; of 31 000 voxels no two share one."""
        count = self.columns * self.rows * self.slices
        # Larger phantoms count again from the start, so as to stay within 16 bits.
        numbers = (np.arange(count) % 31_744).reshape(self.slices, self.rows, self.columns)
        return np.asarray(numbers.T - (1024 if self.modality == "CT" else 0), dtype=np.int16)

    @property
    def truth(self) -> Volume:
        """The series as a volume in the storage order of dcm2niix, RAS."""
        row, column = PLANES[self.plane]
        lps = np.eye(4)
        lps[:3, 0] = row * self.between_columns
        lps[:3, 1] = column * self.between_rows
        lps[:3, 2] = np.cross(row, column) * self.between_slices
        lps[:3, 3] = self.origin
        upwards = np.diag([1.0, -1.0, 1.0, 1.0])
        upwards[1, 3] = self.rows - 1
        datasets = tuple(self._uid(f"slice {k}") for k in range(self.slices))
        return Volume(
            self.values[:, ::-1],
            affines.swap_lps_ras(lps @ upwards),
            self._uid("series"),
            datasets,
        )

    def datasets(self) -> Series:
        """One data set for each slice, ascending along the normal."""
        return [self._slice(k) for k in range(self.slices)]

    def _uid(self, what: str) -> UID:
        return uid_from(f"{self.study}/{self.name}/{what}")

    def _slice(self, k: int) -> Dataset:
        row, column = PLANES[self.plane]
        position = np.array(self.origin) + np.cross(row, column) * self.between_slices * k
        offset = 1024 if self.modality == "CT" else 0
        ds = Dataset()
        ds.SOPClassUID = CTImageStorage if self.modality == "CT" else MRImageStorage
        ds.SOPInstanceUID = self._uid(f"slice {k}")
        ds.StudyInstanceUID = uid_from(self.study)
        ds.SeriesInstanceUID = self._uid("series")
        ds.FrameOfReferenceUID = uid_from(f"{self.study}/frame of reference")
        ds.PositionReferenceIndicator = ""
        ds.Modality = self.modality
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if self.modality == "CT" else "M"]
        ds.PatientName, ds.PatientID = "Phantom^Nest", "0"
        ds.PatientBirthDate = ds.PatientSex = ds.AccessionNumber = ds.ReferringPhysicianName = ""
        ds.StudyDate, ds.StudyTime, ds.StudyID = "20260101", "120000", "1"
        ds.ContentDate, ds.ContentTime = "20260101", "120000"
        ds.Manufacturer = "nestseg"
        ds.SeriesNumber, ds.AcquisitionNumber, ds.InstanceNumber = 1, 1, k + 1
        ds.SliceThickness = self.between_slices
        if self.modality == "MR":
            ds.ScanningSequence, ds.SequenceVariant = "SE", "NONE"
            ds.ScanOptions, ds.MRAcquisitionType = "", "2D"
            ds.EchoTime, ds.RepetitionTime, ds.EchoTrainLength = 10, 500, 1
        else:
            ds.KVP = 120
            ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, -offset, "HU"
        ds.ImagePositionPatient = decimals(position)
        ds.ImageOrientationPatient = decimals([*row, *column])
        ds.PixelSpacing = [self.between_rows, self.between_columns]
        ds.Rows, ds.Columns = self.rows, self.columns
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
        set_pixels(ds, self.values[:, :, k].T.astype(np.int32) + offset)
        return ds


def uid_from(seed: str) -> UID:
    """A UID that depends on nothing but the seed (PS3.5 B.2)."""
    return UID(f"2.25.{int.from_bytes(hashlib.sha256(seed.encode()).digest()[:16], 'big')}")


def decimals(numbers: Iterable[float]) -> list[str]:
    """Decimal strings hold 16 characters."""
    return [f"{number + 0.0:.12f}"[:16] for number in numbers]


def set_pixels(ds: Dataset, stored: npt.NDArray[Any]) -> None:
    """Stores ``(rows, columns)`` values as the 16 bits that the data set declares."""
    ds.PixelData = stored.astype("<i2" if ds.PixelRepresentation else "<u2").tobytes()
    ds["PixelData"].VR = "OW"


def get_pixels(ds: Dataset) -> npt.NDArray[Any]:
    """The ``(rows, columns)`` stored values of an uncompressed data set."""
    dtype = "<i2" if ds.PixelRepresentation else "<u2"
    return np.frombuffer(ds.PixelData, dtype).reshape(ds.Rows, ds.Columns)
