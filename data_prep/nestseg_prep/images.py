"""Images in whatever form Python code holds them → volumes, and back for ITK.

Libraries differ in their axes: NIfTI, nibabel and MONAI count patient coordinates towards right,
anterior, superior (RAS) and index voxels ``(i, j, k)``; ITK and DICOM count towards left,
posterior, superior (LPS), and SimpleITK's arrays are ``(k, j, i)``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nestseg_prep import affine as affines
from nestseg_prep.dicom.references import SeriesRef
from nestseg_prep.dicom.scan import scan
from nestseg_prep.errors import InputError
from nestseg_prep.picture import SUFFIXES as PICTURES
from nestseg_prep.reading import read_volume
from nestseg_prep.selection import Selection
from nestseg_prep.volume import Volume

ITK: Final = (".nrrd", ".mha", ".mhd")
NIFTI: Final = (".nii.gz", ".nii")
_MM: Final = {"meter": 1000.0, "micron": 0.001}


def as_volume(image: object, selection: Selection | None = None) -> Volume:
    """Turn an image into a volume, with its voxels where they lie in the patient.

    Args:
        image: a path (a NIfTI, NRRD, MetaImage or MGH file, a picture, or a folder with one DICOM
            series), a ``Volume``, an image of nibabel or SimpleITK, a MONAI ``MetaTensor`` of one
            channel, or a pair of an array ``(i, j, k)`` and its affine ``(4, 4)`` to RAS mm.
        selection: which files are taken; nothing but a path says what it is an image of.

    Raises:
        InputError: it is something else, cannot be read, has no geometry, or is not taken.
    """
    if isinstance(image, Volume):
        return image
    if isinstance(image, str | os.PathLike):
        return read_image(Path(image), selection)
    if isinstance(image, tuple) and len(image) == 2:
        return _volume(np.asarray(image[0]), image[1])
    for module, name, convert in _LIBRARIES:
        # Whoever holds an object of a library has imported it.
        kind = getattr(sys.modules.get(module), name, None)
        if kind is not None and isinstance(image, kind):
            return convert(image)
    raise InputError(
        f"{type(image).__name__}: not an image with geometry; give a path, a Volume, an image of "
        "nibabel or SimpleITK, a MetaTensor, or a pair (array, affine)"
    )


def read_image(path: Path, selection: Selection | None = None) -> Volume:
    """Read the image at a path: a file of a volume, a picture, or a folder with one series.

    Args:
        path: of a file or folder.
        selection: what is taken.

    Raises:
        InputError: it cannot be read, or is not taken.
    """
    ref = series_at(path)
    if selection is not None:
        (decision,) = selection.decide([ref])
        if not decision.taken:
            raise InputError(f"{path.name}: does not fit the bundle: {decision.reason}")
    return read_volume(ref)


def series_at(path: Path) -> SeriesRef:
    """The one acceptable series at a path: a file, or a folder of DICOM files.

    Raises:
        InputError: there is none or more than one, or it is refused; one line, with the remedy.
    """
    series = scan(path, pictures=True).series
    accepted = [ref for ref in series if ref.accepted]
    if len(accepted) == 1:
        return accepted[0]
    if not accepted and series:
        raise InputError(f"{path.name}: {series[0].reason}")
    raise InputError(
        f"{path.name}: {len(accepted)} acceptable series, expected one; `nestseg scan` lists them"
    )


def ending(path: str | Path) -> str:
    """``.nii.gz``, ``.nrrd``, … of a name; ``""`` where none of them fits."""
    name = str(path).lower()
    return next((e for e in (".seg.nrrd", *NIFTI, *ITK, *PICTURES) if name.endswith(e)), "")


def from_itk(image: Any) -> Volume:
    """The volume of a ``SimpleITK.Image``.

    Raises:
        InputError: it does not hold a single 3D image of one component.
    """
    import SimpleITK as sitk  # noqa: N813, PLC0415

    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError("not a single 3D image of one component; give one volume")
    array = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    return Volume(np.ascontiguousarray(array), affines.swap_lps_ras(matrix))


def to_itk(volume: Volume) -> Any:
    """A volume as a ``SimpleITK.Image``."""
    import SimpleITK as sitk  # noqa: N813, PLC0415

    image: Any = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.transpose(2, 1, 0)))
    affine = affines.swap_lps_ras(volume.affine)
    image.SetSpacing(affines.spacing(affine))
    image.SetDirection(affines.directions(affine).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


def _from_nibabel(image: Any) -> Volume:
    header, affine = image.header, image.affine
    codes = [header[name] for name in ("qform_code", "sform_code") if name in header]
    if affine is None or (codes and not any(codes)):
        raise InputError("the nibabel image has no patient coordinates; give it an affine")
    shape = tuple(image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    unit = header.get_xyzt_units()[0] if hasattr(header, "get_xyzt_units") else "mm"
    in_mm = np.diag([*[_MM.get(unit, 1.0)] * 3, 1.0]) @ affine
    return _volume(np.asanyarray(image.dataobj).reshape(shape), in_mm)


def _from_meta_tensor(image: Any) -> Volume:
    array = image.detach().cpu().numpy()
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    affine = np.asarray(image.affine.cpu(), np.float64)
    if image.meta.get("space") == "LPS":
        affine = affines.swap_lps_ras(affine)
    return _volume(array, affine)


def _volume(array: npt.NDArray[Any], affine: npt.ArrayLike) -> Volume:
    if array.dtype.kind not in "biuf":
        raise InputError(f"voxels of type {array.dtype} are not grey values; convert them")
    return Volume(array, np.asarray(affine, np.float64))


_LIBRARIES: Final = (
    ("SimpleITK", "Image", from_itk),
    ("nibabel.spatialimages", "SpatialImage", _from_nibabel),
    ("monai.data.meta_tensor", "MetaTensor", _from_meta_tensor),
)
