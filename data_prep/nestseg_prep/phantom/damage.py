"""What goes wrong with a series: each function returns one that turns a series into a worse one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from nestseg_prep.phantom.series import Series, decimals, get_pixels, set_pixels, uid_from

Damage: TypeAlias = Callable[[Series], Series]

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
            twin.SOPInstanceUID = uid_from(f"{twin.SOPInstanceUID} again")
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
            ds.ImagePositionPatient = decimals(position)
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
                ds.SOPInstanceUID = uid_from(f"{ds.SOPInstanceUID} phase {phase}")
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
