"""Encoded pixel data → stored values, exactly as the standard defines them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, SecondaryCaptureImageStorage

from nestseg_prep.dicom import kinds
from nestseg_prep.dicom.codestream import declared_size
from nestseg_prep.errors import FileError

Array: TypeAlias = npt.NDArray[Any]

# pylibjpeg before all others: the others abort the process on some broken files, or are slower.
_PREFERRED_PLUGIN: Final = "pylibjpeg"
_PIXEL_MODULE: Final = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation")


class PixelError(FileError):
    """The pixel data cannot be decoded to what its header declares."""


def stored_values(dataset: FileDataset, frame: int) -> Array:
    """Decodes one frame.

    Args:
        dataset: a whole data set with pixel data of one sample per pixel.
        frame: number of the frame, from 0.

    Returns:
        ``(rows, columns)`` integers: neither rescaled nor inverted, bits that are not stored
        masked or sign-extended.

    Raises:
        PixelError: the pixel data is broken.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        if syntax.is_encapsulated:
            _check_size(dataset, frame)
        if syntax in kinds.ITK_SYNTAXES:
            values = _by_simpleitk(dataset, frame)
        elif _shift(dataset):
            values = _shifted(dataset, frame)
        else:
            values = np.asarray(pixel_array(dataset, index=frame, decoding_plugin=_plugin(syntax)))
    except PixelError:
        raise
    # Third-party decoders fail in any way they like on broken bytes.
    except Exception as error:
        raise PixelError(type(error).__name__) from error
    except BaseException as error:
        # pylibjpeg-rle is written in Rust: on broken bytes it panics, which is no Exception.
        if type(error).__name__ == "PanicException":
            raise PixelError(type(error).__name__) from error
        raise
    if values.shape != (dataset.Rows, dataset.Columns) or values.dtype.kind not in "iu":
        msg = f"decodes to {values.dtype} of shape {values.shape}"
        raise PixelError(msg)
    return values


def _shift(dataset: FileDataset) -> int:
    """How many bits below its lowest a pixel value has in its bytes."""
    high = dataset.get("HighBit")
    return 0 if high is None else int(high) + 1 - int(dataset.BitsStored)


def _shifted(dataset: FileDataset, frame: int) -> Array:
    """Values that begin above the lowest bit; pydicom does not look at HighBit.

    Bits below a value may hold anything by the standard. In practice they are empty, and what lies
    there is a value that was stored where it belongs, under a header that says otherwise.
    """
    shift, stored, allocated = _shift(dataset), int(dataset.BitsStored), int(dataset.BitsAllocated)
    raw = np.asarray(
        pixel_array(dataset, index=frame, bits_stored=allocated, pixel_representation=0)
    ).astype(np.int64)
    if (raw & ((1 << shift) - 1)).any():
        msg = "the pixels do not lie where HighBit says"
        raise PixelError(msg)
    values = (raw >> shift) & ((1 << stored) - 1)
    if not dataset.PixelRepresentation:
        return values.astype(f"u{allocated // 8}")
    return (values - ((values >> (stored - 1)) << stored)).astype(f"i{allocated // 8}")


def _check_size(dataset: FileDataset, frame: int) -> None:
    """Refuses a code stream of another size than the header's, before a decoder allocates it."""
    size = declared_size(_encoded(dataset, frame))
    if size not in {None, (dataset.Rows, dataset.Columns)}:
        msg = f"the code stream holds an image of {size}"
        raise PixelError(msg)


def _encoded(dataset: FileDataset, frame: int) -> bytes:
    frames = int(dataset.get("NumberOfFrames") or 1)
    return get_frame(dataset.PixelData, frame, number_of_frames=frames)


def _plugin(syntax: UID) -> str:
    if syntax not in kinds.PLUGIN_SYNTAXES:
        return ""
    available = get_decoder(syntax).available_plugins
    return _PREFERRED_PLUGIN if _PREFERRED_PLUGIN in available else ""


def _by_simpleitk(dataset: FileDataset, frame: int) -> Array:
    """Decodes JPEG of more than 8 bits by SimpleITK, whose reader knows files only.

    The file it is given holds one frame and nothing else: no patient, and no rescale or
    photometric inversion for it to apply.
    """
    import SimpleITK as sitk  # noqa: N813, PLC0415  (only this rare path needs it)

    encoded = _encoded(dataset, frame)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.dcm"
        _bare_image(dataset, encoded).save_as(path, enforce_file_format=True)
        image = sitk.ReadImage(str(path), imageIO="GDCMImageIO")
    values = np.asarray(sitk.GetArrayFromImage(image))
    if values.ndim == 3:
        values = values[0]
    return values


def _bare_image(dataset: FileDataset, encoded: bytes) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = UID("2.25.1")
    meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    bare = FileDataset("", {}, preamble=b"\0" * 128, file_meta=meta)
    bare.SOPClassUID = meta.MediaStorageSOPClassUID
    bare.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    for keyword in _PIXEL_MODULE:
        setattr(bare, keyword, dataset[keyword].value)
    bare.HighBit = dataset.BitsStored - 1
    bare.SamplesPerPixel = 1
    bare.PhotometricInterpretation = "MONOCHROME2"
    bare.PixelData = encapsulate([encoded])
    bare["PixelData"].is_undefined_length = True
    return bare
