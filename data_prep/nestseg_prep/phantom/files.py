"""Data sets → files, in any transfer syntax, whole or cut."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_file_meta_info
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian

from nestseg_prep.phantom.series import Series, get_pixels


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


def relabel(path: Path, syntax: UID) -> None:
    """Declares another transfer syntax in a file and leaves its data set as it is."""
    content = path.read_bytes()
    meta = read_file_meta_info(path)
    # PS3.10 7.1: behind the preamble, the length of the group is its first element.
    end = 144 + int(meta.FileMetaInformationGroupLength)
    meta.TransferSyntaxUID = syntax
    head = DicomBytesIO()
    write_file_meta_info(head, meta)
    path.write_bytes(content[:132] + head.getvalue() + content[end:])


def cut_file(path: Path, keep: float) -> None:
    """Cuts a file to a fraction of its length, as an interrupted copy does."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
