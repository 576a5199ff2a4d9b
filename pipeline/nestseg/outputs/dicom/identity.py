"""UIDs that follow from content: the same result of the same images is the same object.

A case that runs again, since its first run was killed, makes no second object for an archive to
keep. Dates are those of the writing; as for other reproducible files, ``SOURCE_DATE_EPOCH`` (in
seconds since 1970) replaces them.
"""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import UID

from nestseg.outputs.dicom.algorithm import Algorithm, uid_from
from nestseg.outputs.dicom.source import SourceSlices

_VARIABLE: Final = "SOURCE_DATE_EPOCH"
_DATES: Final = ("InstanceCreationDate", "ContentDate")
_TIMES: Final = ("InstanceCreationTime", "ContentTime")


class Identity(NamedTuple):
    """UIDs of a new object.

    Attributes:
        series: SeriesInstanceUID.
        sop: SOPInstanceUID.
    """

    series: UID
    sop: UID


def identity(
    kind: str, content: npt.NDArray[Any] | str, source: SourceSlices, algorithm: Algorithm
) -> Identity:
    """The UIDs of an object.

    Args:
        kind: of object.
        content: what it says, apart from what the others tell.
        source: of which slices.
        algorithm: who says it.
    """
    if isinstance(content, str):
        said = content
    else:
        array = np.ascontiguousarray(content)
        said = f"{array.shape} {array.dtype} {hashlib.sha256(array.data).hexdigest()}"
    slices = hashlib.sha256("\0".join(str(one) for one in source.references).encode()).hexdigest()
    parts = (kind, source.series_uid, slices, said, *algorithm.software_versions)
    whole = (*parts, algorithm.weights_sha256)
    return Identity(uid_from("series", *whole), uid_from("object", *whole))


def make_repeatable(dataset: Dataset) -> None:
    """Replace what highdicom makes up for an object: further UIDs, and dates if asked for."""
    dimensions = uid_from("dimensions", dataset.SOPInstanceUID)
    epoch = os.environ.get(_VARIABLE, "")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch.isdigit() else None
    for element in dataset.iterall():
        if element.keyword == "DimensionOrganizationUID":
            element.value = dimensions
        if moment is None:
            continue
        if element.keyword == "ContributionDateTime":
            element.value = moment.strftime("%Y%m%d%H%M%S")
        elif element.keyword in _DATES:
            element.value = moment.strftime("%Y%m%d")
        elif element.keyword in _TIMES:
            element.value = moment.strftime("%H%M%S")
