"""The catalogue of odd series: how to make each, and what its slices really are.

Numbers are those under which the kinds are known; a letter in front
marks what was added to them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset

from nestseg_prep.phantom import changes, damage
from nestseg_prep.phantom.damage import Damage, every, only, setting
from nestseg_prep.phantom.enhanced import as_enhanced
from nestseg_prep.phantom.file_kinds import FILE_KINDS
from nestseg_prep.phantom.files import cut_file, jpeg_lossless, write
from nestseg_prep.phantom.series import Phantom, Plane, Series
from nestseg_prep.phantom.series_kinds import SERIES_KINDS
from nestseg_prep.phantom.truth import Group, Kind, group, true_slice

CT: Final = Phantom()
MR: Final = Phantom(modality="MR")
OTHER: Final = Phantom(name="other", origin=(50.0, -80.0, 200.0), between_slices=4.0)


def _series(series: Series) -> Callable[[Path], list[Group]]:
    """One volume, whose slices are what their headers say."""
    return lambda folder: _written(folder, series, [group(series)])


def _written(folder: Path, series: Series, truth: Sequence[Group]) -> list[Group]:
    write(series, folder)
    return list(truth)


def _damaged(
    change: Damage, source: Phantom = CT, *, header_lies: bool = False
) -> Callable[[Path], list[Group]]:
    """A series that was changed; where its header lies, the truth is that of the source."""
    series = change(source.datasets())
    truth = group(source.datasets() if header_lies else series)
    return lambda folder: _written(folder, series, [truth])


def _unknowable(change: Damage) -> Callable[[Path], list[Group]]:
    """A series of which nobody can say where it lies."""
    return lambda folder: _written(folder, change(CT.datasets()), [])


def _parts(*parts: Series) -> Callable[[Path], list[Group]]:
    """Several volumes in the files of one folder."""
    merged = [ds for part in parts for ds in part]
    return lambda folder: _written(folder, merged, [group(part) for part in parts])


def _one_uid(*parts: Series) -> list[Series]:
    merged = damage.as_one_series(*parts)
    ends = np.cumsum([len(part) for part in parts])[:-1]
    return [merged[a:b] for a, b in zip([0, *ends], [*ends, len(merged)], strict=True)]


def _phases(count: int, source: Phantom, tag: str) -> Callable[[Path], list[Group]]:
    series = damage.phases(count, **{tag: lambda phase: phase + 1})(source.datasets())
    return _parts(*(series[12 * n : 12 * n + 12] for n in range(count)))


def _syntax(syntax: uid.UID) -> Callable[[Path], list[Group]]:
    # openjpeg wants at least 32 pixels each way.
    source = Phantom(columns=33, rows=64, slices=4).datasets()
    packed = source
    if syntax == uid.JPEGLosslessSV1:
        packed = [jpeg_lossless(ds) for ds in source]

    def make(folder: Path) -> list[Group]:
        write(packed, folder, syntax=syntax)
        return [group(source)]

    return make


def _bare(folder: Path) -> list[Group]:
    folder.mkdir(parents=True)
    for number, ds in enumerate(CT.datasets()):
        ds.save_as(folder / f"{number}", implicit_vr=True, little_endian=True)
    return [group(CT.datasets())]


def _enhanced(source: Phantom, order: Sequence[int] | None = None) -> Callable[[Path], list[Group]]:
    def make(folder: Path) -> list[Group]:
        series = source.datasets()
        ds = as_enhanced(series, order)
        numbers = order or range(len(series))
        truth = {
            (str(ds.SOPInstanceUID), n): true_slice(series[which])
            for n, which in enumerate(numbers)
        }
        return _written(folder, [ds], [truth])

    return make


def _enhanced_phases(folder: Path) -> list[Group]:
    series = damage.phases(2, TemporalPositionIdentifier=lambda phase: phase + 1)(MR.datasets())
    ds = as_enhanced(series)
    name = str(ds.SOPInstanceUID)
    truth = [
        {(name, n): true_slice(series[n]) for n in range(first, first + 12)} for first in (0, 12)
    ]
    return _written(folder, [ds], truth)


def _cut(keep: float) -> Callable[[Path], list[Group]]:
    def make(folder: Path) -> list[Group]:
        cut_file(write(CT.datasets(), folder)[5], keep)
        return [group(CT.datasets())]

    return make


def _scout(folder: Path) -> list[Group]:
    scout = setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    image = every(scout)(Phantom("coronal", name="scout", slices=1).datasets())
    series, image = _one_uid(CT.datasets(), image)
    return _written(folder, [*series, *image], [group(series)])


def _with_documents(folder: Path) -> list[Group]:
    write(CT.datasets(), folder)
    gone = setting(PixelData=None, Rows=None, Columns=None)
    for name, kind, modality in (
        ("report", uid.EnhancedSRStorage, "SR"),
        ("letter", uid.EncapsulatedPDFStorage, "DOC"),
        ("plan", uid.RTPlanStorage, "RTPLAN"),
    ):
        other = Phantom(name=name).datasets()[:1]
        change = setting(SOPClassUID=kind, Modality=modality)
        write(every(change)(every(gone)(other)), folder, name=f"{name}{{}}.dcm".format)
    (folder / "readme.txt").write_text("not an image")
    return [group(CT.datasets())]


def _names(folder: Path) -> list[Group]:
    write(CT.datasets(), folder, name=lambda number: f"{number * 7919 % 101:x}")
    return [group(CT.datasets())]


def _evil_names(folder: Path) -> list[Group]:
    texts = dict.fromkeys(
        ("PatientName", "PatientID", "SeriesDescription", "StudyDescription", "ProtocolName"),
        "../../Mü^Ler\u00dfen:*?",
    )
    series = every(setting(SpecificCharacterSet="ISO_IR 192", **texts))(CT.datasets())
    write(series, folder, name=lambda number: f"Mü ßn;[{number}] 'x'.dcm")
    return [group(series)]


def _split_off(change: Callable[[Dataset], None]) -> Callable[[Path], list[Group]]:
    """One slice in the middle is of another kind."""
    series = only(lambda number: number == 5, change)(CT.datasets())
    rest = [ds for number, ds in enumerate(series) if number != 5]
    return lambda folder: _written(folder, series, [group(rest), group([series[5]])])


def _planes() -> Callable[[Path], list[Group]]:
    planes: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
    return _parts(*_one_uid(*(Phantom(plane, name=plane).datasets() for plane in planes)))


def _colour(folder: Path) -> list[Group]:
    return _written(folder, every(changes.in_colour)(CT.datasets()), [])


_SMALL: Final = Phantom(columns=16, rows=16)

KINDS: Final = (
    Kind("01_clean", _series(CT.datasets())),
    Kind("02_noext_random_names", _names),
    Kind("03_instnum_reversed", _damaged(damage.in_order(lambda count: range(count)[::-1]))),
    Kind("03b_instnum_shuffled", _damaged(damage.in_order(damage.shuffled))),
    Kind("03c_no_instnum", _damaged(every(setting(InstanceNumber=None)))),
    Kind("04_oblique", _series(Phantom("oblique").datasets())),
    Kind("05_sagittal", _series(Phantom("sagittal").datasets())),
    Kind("05b_coronal", _series(Phantom("coronal").datasets())),
    Kind(
        "06_missing_slice",
        _damaged(damage.without_slice(5)),
        "refused",
        ("missing-slice",),
        asked="read",
    ),
    Kind("06b_missing_end", _damaged(damage.without_slice(11))),
    Kind("07_dup_same_sop", _damaged(damage.with_copy(5))),
    Kind("07b_dup_pos_new_sop", _damaged(damage.with_copy(5, new_uid=True))),
    Kind("08_uneven_2mm_4mm", _damaged(changes.two_steps)),
    Kind("08b_jitter_2um", _damaged(changes.jitter(0.002))),
    Kind("08c_jitter_60um", _damaged(changes.jitter(0.06))),
    Kind("09_gantry_tilt15", _damaged(damage.tilted(15))),
    Kind("10_two_series", _parts(CT.datasets(), OTHER.datasets()), "split"),
    Kind("11_localizer_same_series", _scout, "split", ("localizer",)),
    Kind("12_with_SR_PDF_text", _with_documents),
    Kind("13_enhanced_ct", _enhanced(CT)),
    Kind("13b_enhanced_ct_shuffled", _enhanced(Phantom("oblique"), damage.shuffled(12))),
    Kind("14_4d_3timepoints", _phases(3, MR, "TemporalPositionIdentifier"), "split"),
    Kind("14b_ct_2phases_one_series", _phases(2, CT, "AcquisitionNumber"), "split"),
    Kind("16_truncated_file", _cut(0.75), "refused", ("truncated",)),
    Kind("16b_header_trunc", _cut(0.2), "refused", ("unreadable-member",)),
    Kind("17_no_pixelspacing", _unknowable(every(setting(PixelSpacing=None))), "refused",
         ("no-geometry",)),
    Kind("17b_zero_spacing", _unknowable(every(setting(PixelSpacing=[0, 0]))), "refused",
         ("no-geometry",)),
    Kind("17c_no_iop", _unknowable(every(setting(ImageOrientationPatient=None))), "refused",
         ("no-geometry",)),
    Kind("17d_no_ipp", _unknowable(every(setting(ImagePositionPatient=None))), "refused",
         ("no-geometry",)),
    Kind("17e_all_same_ipp", _unknowable(every(setting(ImagePositionPatient=[0, 0, 0]))),
         "refused", ("same-position",)),
    Kind("18_pet_slopes", _damaged(changes.pet_slopes)),
    Kind("19_monochrome1", _damaged(every(setting(PhotometricInterpretation="MONOCHROME1")))),
    Kind("20b_highbits_garbage",
         _damaged(every(changes.garbage_above_bit_12), _SMALL, header_lies=True)),
    Kind("20c_padding_-2000", _damaged(every(changes.padded))),
    Kind("21_diff_size_in_series", _split_off(changes.fewer_rows), "refused",
         ("missing-slice", "too-few-slices"), asked="split"),
    Kind("22_nonascii_and_evil_names", _evil_names),
    Kind("23_thickness5_spacing2.5", _damaged(every(setting(SliceThickness=5)))),
    Kind("24_single_slice", _series(CT.datasets()[:1]), "refused", ("too-few-slices",),
         asked="read"),
    Kind("25_descending_z", _series(CT.datasets()[::-1])),
    Kind("26_bigendian", _syntax(uid.ExplicitVRBigEndian)),
    Kind("26_deflated", _syntax(uid.DeflatedExplicitVRLittleEndian)),
    Kind("26_implicit", _syntax(uid.ImplicitVRLittleEndian)),
    Kind("26_j2k", _syntax(uid.JPEG2000Lossless)),
    Kind("26_jpeglossless", _syntax(uid.JPEGLosslessSV1)),
    Kind("26_jpegls", _syntax(uid.JPEGLSLossless)),
    Kind("26_nometa_nopreamble", _bare),
    Kind("26_rle", _syntax(uid.RLELossless)),
    Kind("27_iop_rounded_3digits",
         _damaged(every(changes.rounded_orientation(3)), Phantom("oblique"), header_lies=True)),
    Kind("28_one_slice_rotated", _split_off(changes.turned), "refused",
         ("missing-slice", "too-few-slices"), asked="split"),
    Kind("29_ct_no_rescale",
         _damaged(every(setting(RescaleSlope=None, RescaleIntercept=None)))),
    Kind("29b_intercept_varies",
         _damaged(only(lambda number: number == 0, setting(RescaleIntercept=None))), "refused",
         ("rescale-incomplete",)),
    Kind("30_three_plane_scout", _planes(), "split"),
    Kind("31_rgb", _colour, "refused", ("colour",)),
    # --- beyond the list -------------------------------------------------------------------------
    Kind("x07_dup_pos_other_pixels",
         _damaged(damage.with_copy(5, new_uid=True, new_pixels=True)), "refused",
         ("duplicate-position",)),
    Kind("x08_tilted_and_uneven", _damaged(changes.tilted_and_uneven)),
    Kind("x09_tilted_the_other_way", _damaged(damage.tilted(-22.5))),
    Kind("x10_two_series_one_uid", _parts(*_one_uid(CT.datasets(), OTHER.datasets())), "refused",
         ("scattered-slices",)),
    Kind("x13_enhanced_mr_2timepoints", _enhanced_phases, "split"),
    Kind("x14_echoes", _phases(2, MR, "EchoTime"), "split"),
    Kind("x14_bvalues", _phases(3, MR, "DiffusionBValue"), "split"),
    Kind("x14_trigger_times", _phases(3, MR, "TriggerTime"), "split"),
    Kind("x15_mosaic",
         _unknowable(every(setting(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]))),
         "refused", ("mosaic",)),
    Kind("x18_lookup_table", _unknowable(every(changes.lookup_table)), "refused",
         ("rescale-unusable",)),
    Kind("x21_no_frame_of_reference", _damaged(every(setting(FrameOfReferenceUID=None)))),
    *FILE_KINDS,
    *SERIES_KINDS,
)  # fmt: skip
