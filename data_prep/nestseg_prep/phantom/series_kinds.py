"""Odd series, continued: whose slices they are, several acquisitions in one, and odd values."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset

from nestseg_prep.phantom import damage
from nestseg_prep.phantom.damage import Damage, every, only, setting
from nestseg_prep.phantom.enhanced import as_enhanced
from nestseg_prep.phantom.files import write
from nestseg_prep.phantom.series import Phantom, Series, get_pixels, set_pixels, uid_from
from nestseg_prep.phantom.truth import Group, Kind, SliceName, TrueSlice, group, true_slice

Make: TypeAlias = Callable[[Path], list[Group]]

_CT: Final = Phantom()
_MR: Final = Phantom(modality="MR")
_MIDDLE: Final = _CT.slices // 2


def _written(series: Series, truth: Sequence[Group]) -> Make:
    def make(folder: Path) -> list[Group]:
        write(series, folder)
        return list(truth)

    return make


def _one(change: Damage, source: Phantom = _CT) -> Make:
    """One volume, whose slices are what their headers say."""
    series = change(source.datasets())
    return _written(series, [group(series)])


def _nothing(change: Damage, source: Phantom = _CT) -> Make:
    """A series of which no volume can be made."""
    return _written(change(source.datasets()), [])


def _several(*parts: Series) -> Make:
    return _written([ds for part in parts for ds in part], [group(part) for part in parts])


def _phases(source: Phantom, count: int, **tags: Callable[[int], Any]) -> Make:
    """Volumes at the same places."""
    series = damage.phases(count, **tags)(source.datasets())
    each = source.slices
    return _several(*(series[each * n : each * (n + 1)] for n in range(count)))


def _own_times(tag: str, pause_s: int) -> list[Series]:
    """Three volumes whose slices have a time of their own each, a second apart."""
    series = damage.phases(3)(_MR.datasets())
    for number, ds in enumerate(series):
        phase, place = divmod(number, _MR.slices)
        seconds = phase * (_MR.slices + pause_s) + place
        setattr(ds, tag, f"12{seconds // 60:02d}{seconds % 60:02d}.5")
    each = _MR.slices
    return [series[each * n : each * (n + 1)] for n in range(3)]


def _own_times_unequal() -> Make:
    first, second, third = _own_times("ContentTime", 40)
    return _several(first, second[:-4], third)


def _between(share: float, source: Phantom = _CT, **tags: Sequence[Any]) -> list[Series]:
    """Acquisitions whose slices lie a share of a step between those of the first."""
    parts = []
    for number in range(len(next(iter(tags.values())))):
        first = source.origin[2] + number * share * source.between_slices
        part = replace(source, origin=(*source.origin[:2], first)).datasets()
        for ds in part:
            ds.SOPInstanceUID = uid_from(f"{ds.SOPInstanceUID} acquisition {number}")
            set_pixels(ds, get_pixels(ds) + number)
            setting(**{tag: values[number] for tag, values in tags.items()})(ds)
        parts.append(part)
    return parts


def _unequal_coverage() -> Make:
    """Three times, of which the second saw fewer slices at both ends."""
    series = damage.phases(3, FrameReferenceTime=lambda phase: 60_000 * phase)(_MR.datasets())
    each = _MR.slices
    parts = [series[each * n : each * (n + 1)] for n in range(3)]
    return _several(parts[0], parts[1][2:-3], parts[2])


def _hole_in_one() -> Make:
    """Of two echoes between each other one lacks a slice."""
    first, second = _between(0.5, _MR, EchoTime=(10, 90))
    return _several(first, damage.without_slice(_MIDDLE)(second))


def _along(tag: str, value: Callable[[int], Any], source: Phantom = _CT) -> Make:
    """One volume in which a tag has a value of its own for each slice."""
    series = source.datasets()
    for number, ds in enumerate(series):
        setattr(ds, tag, value(number))
    return _written(series, [group(series)])


def _two_patients(**tags: Sequence[str]) -> Make:
    """Two patients under the same UIDs, one behind the other."""
    return _several(*_between(_CT.slices, _CT, **tags))


def _stranger(number: int, **tags: Any) -> Make:
    """One slice of another patient or study among those of a series."""
    return _nothing(only(lambda one: one == number, setting(**tags)))


def _enhanced(change: Callable[[Dataset, int], None], count: int = 2) -> Make:
    """Volumes of the same place in one enhanced object."""

    def make(folder: Path) -> list[Group]:
        series = damage.phases(count)(_MR.datasets())
        ds = as_enhanced(series)
        for number, frame in enumerate(ds.PerFrameFunctionalGroupsSequence):
            frame.FrameContentSequence[0].TemporalPositionIndex = 1
            change(frame, number // _MR.slices)
        write([ds], folder)
        name, each = str(ds.SOPInstanceUID), _MR.slices
        return [
            {(name, n): true_slice(series[n]) for n in range(each * part, each * (part + 1))}
            for part in range(count)
        ]

    return make


def _macro(frame: Dataset, phase: int, *, name: str, keyword: str, values: Sequence[Any]) -> None:
    item = Dataset()
    setattr(item, keyword, values[phase])
    setattr(frame, name, [item])


def _gradient(frame: Dataset, phase: int) -> None:
    inner, item = Dataset(), Dataset()
    inner.DiffusionGradientOrientation = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]][phase]
    item.DiffusionGradientDirectionSequence = [inner]
    frame.MRDiffusionSequence = [item]


def _left_justified(*, signed: bool, header_lies: bool = False) -> Make:
    """Twelve bits that end at the highest of sixteen."""
    series = Phantom(columns=16, rows=16).datasets()
    truth: dict[SliceName, TrueSlice] = {}
    for ds in series:
        values = get_pixels(ds).astype(int) % 2048 - (1024 if signed else 0)
        ds.PixelRepresentation, ds.BitsStored, ds.HighBit = int(signed), 12, 15
        set_pixels(ds, values)
        truth |= group([ds])
        if not header_lies:
            set_pixels(ds, values * 16)
    return _written(series, [] if header_lies else [truth])


def _two_encodings(folder: Path) -> list[Group]:
    series = _CT.datasets()
    write(series, folder / "cd")
    write(series, folder / "archive", syntax=uid.RLELossless)
    return [group(series)]


def _uid_per_slice(series: Series) -> Series:
    result = copy.deepcopy(series)
    for number, ds in enumerate(result):
        ds.SeriesInstanceUID = uid_from(f"series of slice {number}")
    return result


def _read_with_warning(change: Damage, code: str, source: Phantom = _CT) -> dict[str, Any]:
    return {"make": _one(change, source), "codes": (code,)}


_NUMBERS: Final = (10, 90)
_MR_TYPE: Final = ("ORIGINAL", "PRIMARY")

SERIES_KINDS: Final = (
    # Whose slices they are
    Kind("s01_two_patients_one_uid", _two_patients(PatientID=("0", "1")), "split",
         ("split-by-patient",)),
    Kind("s01b_two_issuers", _two_patients(IssuerOfPatientID=("A", "B")), "split",
         ("split-by-patient",)),
    Kind("s01c_stranger_inside", _stranger(_MIDDLE, PatientID="1"), "refused", ("mixed-owners",)),
    Kind("s01d_stranger_at_the_end", _stranger(11, PatientID="1"), "refused", ("mixed-owners",)),
    Kind("s01e_stranger_of_another_study", _stranger(11, StudyInstanceUID="2.25.5"), "refused",
         ("mixed-owners",)),
    Kind("s01f_patient_missing_in_one", **_read_with_warning(
        only(lambda n: n == 11, setting(PatientID="")), "patient-unnamed")),
    Kind("s01g_blanks_behind_the_patient", _one(
        only(lambda n: n % 2 == 1, setting(PatientID="0 ")))),
    Kind("s02_one_uid_for_each_slice", _one(_uid_per_slice), "refused", ("series-per-slice",),
         asked="read"),
    Kind("s02b_one_uid_for_each_slice_and_a_hole",
         _one(lambda series: damage.without_slice(_MIDDLE)(_uid_per_slice(series))), "refused",
         ("series-per-slice",), asked="read"),
    # Acquisitions between each other, or one behind the other
    Kind("s03_echoes_half_a_step_apart", _several(*_between(0.5, _MR, EchoTime=_NUMBERS)), "split",
         said=("echo time 10 ms", "echo time 90 ms")),
    Kind("s03b_contrast_a_third_of_a_step_apart",
         _several(*_between(1 / 3, ContrastBolusAgent=("", "Iohexol"), AcquisitionNumber=(1, 2))),
         "split", said=("without contrast agent", "with contrast agent")),
    Kind("s03c_three_inversion_times", _several(
        *_between(1 / 3, _MR, InversionTime=(100, 400, 900))), "split",
        said=("inversion time 100 ms", "inversion time 400 ms", "inversion time 900 ms")),
    Kind("s03d_kernels_one_behind_the_other", _several(
        *_between(12, ConvolutionKernel=("B30f", "B70f"))), "split",
        said=("kernel 1 of 2", "kernel 2 of 2")),
    Kind("s03e_voltages_one_behind_the_other", _several(*_between(12, KVP=(80, 140))), "split",
         said=("80 kV", "140 kV")),
    Kind("s03f_one_of_two_echoes_has_a_hole", _hole_in_one(), "refused", ("missing-slice",),
         asked="split"),
    Kind("s03g_acquisitions_alternate", **_read_with_warning(
        only(lambda n: n % 2 == 1, setting(AcquisitionNumber=2)), "alternating-acquisitions")),
    Kind("s03h_acquisitions_in_blocks", _one(only(lambda n: n > 5, setting(AcquisitionNumber=2)))),
    Kind("s03i_one_odd_echo", **_read_with_warning(
        only(lambda n: n == _MIDDLE, setting(EchoTime=90)), "mixed-settings", _MR)),
    Kind("s04_trigger_time_of_each_slice", _along("TriggerTime", lambda n: 37 * n % 500, _MR)),
    Kind("s04b_voltage_rises", _along("KVP", lambda n: 100 + 2 * n)),
    Kind("s04c_content_time_of_each_slice", _along("ContentTime", "1200{:02d}".format)),
    Kind("s04d_voltage_is_modulated",
         _along("KVP", lambda n: round(110 + 10 * np.sin(n * np.pi / 8)))),
    # Phases that a tag tells apart
    Kind("s05_dynamic_pet", _phases(_MR, 3, FrameReferenceTime=lambda n: 60_000 * n + 30_000),
         "split", said=("frame time 30000 ms", "frame time 90000 ms", "frame time 150000 ms")),
    Kind("s05b_unequal_coverage", _unequal_coverage(), "split",
         said=("frame time 0 ms", "frame time 60000 ms", "frame time 120000 ms")),
    Kind("s05c_acquisition_time_of_each_slice", _several(*_own_times("AcquisitionTime", 0)),
         "split", said=("acquired 0 s after the first", "acquired 12 s after the first",
               "acquired 24 s after the first")),
    Kind("s05d_content_time_with_pauses", _several(*_own_times("ContentTime", 40)), "split",
         said=("made 0 s after the first", "made 52 s after the first",
               "made 104 s after the first")),
    Kind("s05e_content_time_and_unequal_coverage", _own_times_unequal(), "split",
         said=("made 0 s after the first", "made 52 s after the first",
               "made 104 s after the first")),
    Kind("s06_inversion_times", _phases(_MR, 2, InversionTime=lambda n: 100 * (10 - 9 * n)),
         "split", said=("inversion time 1000 ms", "inversion time 100 ms")),
    Kind("s06b_flip_angles", _phases(_MR, 2, FlipAngle=lambda n: (3, 15)[n]), "split",
         said=("flip angle 3°", "flip angle 15°")),
    Kind("s06c_cardiac_phases", _phases(
        _CT, 3, NominalPercentageOfCardiacPhase=lambda n: 9 + n * 40), "split",
        said=("cardiac phase 9 %", "cardiac phase 49 %", "cardiac phase 89 %")),
    Kind("s06d_diffusion_directions", _phases(
        _MR, 2, DiffusionBValue=lambda _: 1000.0,
        DiffusionGradientOrientation=lambda n: [1.0 - n, float(n), 0.0]), "split",
        said=("diffusion direction (1, 0, 0)", "diffusion direction (0, 1, 0)")),
    Kind("s06e_magnitude_and_phase", _phases(
        _MR, 2, ImageType=lambda n: [*_MR_TYPE, "MP"[n], "ND"]), "split",
        ("other-quantity",), said=("magnitude", "phase")),
    Kind("s07_enhanced_echo_times", _enhanced(partial(
        _macro, name="MREchoSequence", keyword="EffectiveEchoTime", values=(12.5, 80.0))), "split",
        said=("echo time 12.5 ms", "echo time 80 ms")),
    Kind("s07b_enhanced_directions", _enhanced(_gradient), "split",
         said=("diffusion direction (1, 0, 0)", "diffusion direction (0, 1, 0)")),
    Kind("s08_two_encodings_of_each_image", _two_encodings),
    # Values
    Kind("s09_left_justified", _left_justified(signed=False)),
    Kind("s09b_left_justified_signed", _left_justified(signed=True)),
    Kind("s09c_high_bit_is_wrong", _left_justified(signed=False, header_lies=True), "refused",
         ("HighBit",)),
    Kind("s09d_high_bit_beyond_the_pixel", _nothing(every(setting(BitsStored=12, HighBit=16))),
         "refused", ("high-bit",)),
    Kind("s10_rescale_missing_at_the_end", _nothing(
        only(lambda n: n == 11, setting(RescaleSlope=None, RescaleIntercept=None))), "refused",
        ("rescale-incomplete",)),
    Kind("s11_iodine_map", **_read_with_warning(every(setting(RescaleType="MGML")),
                                                "other-quantity")),
    Kind("s11b_adc_map", **_read_with_warning(
        every(setting(ImageType=["DERIVED", "PRIMARY", "DIFFUSION", "ADC"])), "other-quantity",
        _MR)),
    Kind("s12_offset_lost", **_read_with_warning(every(setting(RescaleIntercept=0)),
                                                 "implausible-hounsfield")),
)  # fmt: skip
