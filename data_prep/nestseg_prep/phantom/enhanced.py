"""Slices → one enhanced multi-frame object (PS3.3 A.38, A.36), geometry in functional groups."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import EnhancedCTImageStorage, EnhancedMRImageStorage

from nestseg_prep.phantom.series import Series, uid_from

_MOVED = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "InstanceNumber",
    "AcquisitionNumber",
)


def as_enhanced(series: Series, order: Sequence[int] | None = None) -> Dataset:
    """One object with the slices as its frames.

    Args:
        series: classic slices with uncompressed pixels.
        order: which slice each frame shows; as they are without it.
    """
    slices = [series[number] for number in order or range(len(series))]
    ds = copy.deepcopy(slices[0])
    is_ct = ds.Modality == "CT"
    ds.SOPClassUID = EnhancedCTImageStorage if is_ct else EnhancedMRImageStorage
    ds.SOPInstanceUID = uid_from(f"{ds.SOPInstanceUID} enhanced")
    for keyword in _MOVED:
        if keyword in ds:
            delattr(ds, keyword)
    ds.InstanceNumber, ds.NumberOfFrames = 1, len(slices)
    first = slices[0]
    shared = _groups(
        PixelMeasuresSequence={
            "PixelSpacing": first.PixelSpacing,
            "SliceThickness": first.SliceThickness,
        },
        PlaneOrientationSequence={"ImageOrientationPatient": first.ImageOrientationPatient},
    )
    ds.SharedFunctionalGroupsSequence = DicomSequence([shared])
    ds.PerFrameFunctionalGroupsSequence = DicomSequence(
        _frame(one, number) for number, one in enumerate(slices)
    )
    ds.PixelData = b"".join(one.PixelData for one in slices)
    ds["PixelData"].VR = "OW"
    return ds


def _frame(one: Dataset, number: int) -> Dataset:
    return _groups(
        PlanePositionSequence={"ImagePositionPatient": one.ImagePositionPatient},
        PixelValueTransformationSequence={
            "RescaleSlope": one.get("RescaleSlope", 1),
            "RescaleIntercept": one.get("RescaleIntercept", 0),
            "RescaleType": "HU" if one.Modality == "CT" else "US",
        },
        FrameContentSequence={
            "FrameAcquisitionNumber": one.get("AcquisitionNumber", 1),
            "TemporalPositionIndex": one.get("TemporalPositionIdentifier", 1),
            "StackID": "1",
            "InStackPositionNumber": number + 1,
        },
    )


def _groups(**macros: dict[str, Any]) -> Dataset:
    result = Dataset()
    for name, values in macros.items():
        macro = Dataset()
        for keyword, value in values.items():
            setattr(macro, keyword, value)
        setattr(result, name, DicomSequence([macro]))
    return result
