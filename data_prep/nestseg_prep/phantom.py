"""Synthetic CT and MR studies written as real DICOM, with known truth.

``Phantom`` describes a clean series; ``datasets`` makes it; functions ``list[Dataset] →
list[Dataset]`` damage it the way hospitals do; ``write`` puts it on disk::

    write(without_slice(5)(Phantom().datasets()), folder)

Spacing differs between rows and columns on purpose: a swap of the two cannot hide.
"""

from __future__ import annotations

import copy
import hashlib
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from nestseg_prep import affine as affines
from nestseg_prep.volume import Volume

Plane: TypeAlias = Literal["axial", "coronal", "sagittal", "oblique"]
Series: TypeAlias = list[Dataset]
Damage: TypeAlias = Callable[[Series], Series]
Vector: TypeAlias = npt.NDArray[np.float64]


_FREE_TEXTS: Final = (
    "PatientName",
    "PatientID",
    "OtherPatientNames",
    "PatientComments",
    "ReferringPhysicianName",
    "OperatorsName",
    "InstitutionName",
    "StationName",
    "StudyDescription",
    "SeriesDescription",
    "ProtocolName",
    "ImageComments",
    "AccessionNumber",
    "StudyID",
)


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
        return _uid(f"{self.study}/{self.name}/{what}")

    def _slice(self, k: int) -> Dataset:
        row, column = PLANES[self.plane]
        position = np.array(self.origin) + np.cross(row, column) * self.between_slices * k
        offset = 1024 if self.modality == "CT" else 0
        ds = Dataset()
        ds.SOPClassUID = CTImageStorage if self.modality == "CT" else MRImageStorage
        ds.SOPInstanceUID = self._uid(f"slice {k}")
        ds.StudyInstanceUID = _uid(self.study)
        ds.SeriesInstanceUID = self._uid("series")
        ds.FrameOfReferenceUID = _uid(f"{self.study}/frame of reference")
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
        ds.ImagePositionPatient = _decimals(position)
        ds.ImageOrientationPatient = _decimals([*row, *column])
        ds.PixelSpacing = [self.between_rows, self.between_columns]
        ds.Rows, ds.Columns = self.rows, self.columns
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
        set_pixels(ds, self.values[:, :, k].T.astype(np.int32) + offset)
        return ds


def _uid(seed: str) -> UID:
    """A UID that depends on nothing but the seed (PS3.5 B.2)."""
    return UID(f"2.25.{int.from_bytes(hashlib.sha256(seed.encode()).digest()[:16], 'big')}")


def _decimals(numbers: Iterable[float]) -> list[str]:
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


def jpeg_lossless(ds: Dataset) -> Dataset:
    """A copy compressed to JPEG Lossless (.70), which pydicom does not write, by SimpleITK."""
    import SimpleITK as sitk  # noqa: N813, PLC0415  (only this rare path needs it)

    result = copy.deepcopy(ds)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.dcm"
        sitk.WriteImage(sitk.GetImageFromArray(get_pixels(ds)), path, True, compressor="JPEG")
        packed = pydicom.dcmread(path)
    result.PixelData = packed.PixelData
    result["PixelData"].VR = "OB"
    result["PixelData"].is_undefined_length = True
    return result


def write(
    series: Series,
    folder: Path,
    *,
    syntax: UID = ExplicitVRLittleEndian,
    name: Callable[[int], str] = "{:04d}.dcm".format,
) -> list[Path]:
    """Writes each data set as a DICOM file.

    Args:
        series: data sets with uncompressed pixels, or with pixels in ``syntax`` already.
        folder: made if it is missing.
        syntax: transfer syntax to write, or to compress to.
        name: file name of the n-th data set.

    Returns:
        The files, in the order of the data sets.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, original in enumerate(series):
        ds = copy.deepcopy(original)
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        packed = "PixelData" in ds and ds["PixelData"].is_undefined_length
        if syntax.is_compressed and not syntax.is_deflated and not packed:
            ds.compress(syntax, generate_instance_uid=False)
        elif not syntax.is_little_endian:
            ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
        ds.file_meta.TransferSyntaxUID = syntax
        path = folder / name(number)
        # Overwriting is off, so that two series never silently become one.
        ds.save_as(path, enforce_file_format=True, overwrite=False)
        paths.append(path)
    return paths


# --- Damage: each function returns one that turns a series into a worse one -----------------------


def every(change: Callable[[Dataset], None]) -> Damage:
    """The change made to each data set."""
    return only(lambda _: True, change)


def only(which: Callable[[int], bool], change: Callable[[Dataset], None]) -> Damage:
    """The change made to the data sets of the given numbers."""

    def damage(series: Series) -> Series:
        result = copy.deepcopy(series)
        for number, ds in enumerate(result):
            if which(number):
                change(ds)
        return result

    return damage


def setting(**values: Any) -> Callable[[Dataset], None]:
    """A change that sets tags; ``None`` removes one."""

    def change(ds: Dataset) -> None:
        for keyword, value in values.items():
            if value is None:
                if keyword in ds:
                    delattr(ds, keyword)
            else:
                setattr(ds, keyword, copy.deepcopy(value))

    return change


def in_order(order: Callable[[int], Sequence[int]]) -> Damage:
    """Gives InstanceNumber in an order that has nothing to do with space."""

    def damage(series: Series) -> Series:
        result = copy.deepcopy(series)
        for ds, number in zip(result, order(len(series)), strict=True):
            ds.InstanceNumber = int(number) + 1
        return sorted(result, key=lambda ds: int(ds.InstanceNumber))

    return damage


def shuffled(count: int) -> list[int]:
    """A fixed shuffle of ``range(count)``, for ``in_order``."""
    return [int(number) for number in np.random.default_rng(0).permutation(count)]


def without_slice(index: int) -> Damage:
    """One slice never arrived."""
    return lambda series: [ds for number, ds in enumerate(series) if number != index]


def with_copy(index: int, *, new_uid: bool = False, new_pixels: bool = False) -> Damage:
    """One slice arrived twice: as it is, under another UID, or with other pixels."""

    def damage(series: Series) -> Series:
        twin = copy.deepcopy(series[index])
        if new_uid:
            twin.SOPInstanceUID = _uid(f"{twin.SOPInstanceUID} again")
        if new_pixels:
            set_pixels(twin, get_pixels(twin) + 1)
        return [*series, twin]

    return damage


def moved(shift: Callable[[int], Sequence[float]]) -> Damage:
    """Adds LPS mm to the position of each slice."""

    def damage(series: Series) -> Series:
        result = copy.deepcopy(series)
        for number, ds in enumerate(result):
            position = np.array(ds.ImagePositionPatient, dtype=float) + np.array(shift(number))
            ds.ImagePositionPatient = _decimals(position)
        return result

    return damage


def tilted(degrees: float, between_slices: float = 2.5) -> Damage:
    """Shears an axial stack, as a gantry does that is tilted while the table moves straight."""
    step = between_slices * np.tan(np.radians(degrees))
    return moved(lambda number: (0, number * step, 0))


def uneven(between_slices: float = 2.5) -> Damage:
    """The last third of an axial stack at 1.6 times the distance."""
    return moved(lambda number: (0, 0, 0.6 * between_slices * max(0, number - 8)))


def phases(count: int, **tags: Callable[[int], Any]) -> Damage:
    """Repeats the series at the same places, each time with other pixels and the given tags."""

    def damage(series: Series) -> Series:
        result = []
        for phase in range(count):
            for ds in copy.deepcopy(series):
                ds.SOPInstanceUID = _uid(f"{ds.SOPInstanceUID} phase {phase}")
                set_pixels(ds, get_pixels(ds) + phase)
                setting(**{tag: value(phase) for tag, value in tags.items()})(ds)
                result.append(ds)
        return result

    return damage


def as_one_series(*parts: Series) -> Series:
    """Several series under the SeriesInstanceUID of the first."""
    uid = parts[0][0].SeriesInstanceUID
    return every(setting(SeriesInstanceUID=uid))([ds for part in parts for ds in part])


def with_marker(marker: str) -> Damage:
    """Plants a text wherever a scanner or a clerk might write about a patient."""
    texts = dict.fromkeys(_FREE_TEXTS, marker)

    def change(ds: Dataset) -> None:
        setting(**texts)(ds)
        nested = Dataset()
        nested.PatientName = marker
        ds.RequestAttributesSequence = DicomSequence([nested])
        ds.private_block(0x0099, "NESTSEG PHANTOM", create=True).add_new(1, "LO", marker)

    return every(change)


def cut_file(path: Path, keep: float) -> None:
    """Cuts a file to a fraction of its length, as an interrupted copy does."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
