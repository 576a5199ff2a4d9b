"""What kind of DICOM object a header describes: tables of the standard's UIDs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from pydicom import uid

from nestseg_prep.dicom.headers import Header, Slice

# PS3.4 B.5: storage classes of cross-sections.
VOLUME_CLASSES: Final = frozenset(
    {
        uid.CTImageStorage,
        uid.MRImageStorage,
        uid.PositronEmissionTomographyImageStorage,
        uid.EnhancedCTImageStorage,
        uid.EnhancedMRImageStorage,
        uid.EnhancedPETImageStorage,
        uid.LegacyConvertedEnhancedCTImageStorage,
        uid.LegacyConvertedEnhancedMRImageStorage,
        uid.LegacyConvertedEnhancedPETImageStorage,
    }
)
VOLUME_MODALITIES: Final = frozenset({"CT", "MR", "PT"})

# PS3.5 A.4: compressed pixels that pydicom decodes with our plug-ins.
PLUGIN_SYNTAXES: Final = frozenset(
    {
        uid.RLELossless,
        uid.JPEGBaseline8Bit,
        uid.JPEGLSLossless,
        uid.JPEGLSNearLossless,
        uid.JPEG2000Lossless,
        uid.JPEG2000,
        uid.HTJ2KLossless,
        uid.HTJ2KLosslessRPCL,
        uid.HTJ2K,
    }
)
# Decoded by SimpleITK: the pydicom plug-in for these is under the GPL.
ITK_SYNTAXES: Final = frozenset({uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGExtended12Bit})
NATIVE_SYNTAXES: Final = frozenset(
    {
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.DeflatedExplicitVRLittleEndian,
    }
)
DECODED_SYNTAXES: Final = NATIVE_SYNTAXES | PLUGIN_SYNTAXES | ITK_SYNTAXES

# Third and later values of ImageType that Siemens and United Imaging give to tiled slices.
_MOSAIC_TYPES: Final = frozenset({"MOSAIC", "VFRAME"})

# What CT values may be besides Hounsfield units (PS3.3 C.11.1.1.2), and the image types of maps
# that multi-energy CT makes (PS3.3 C.8.15.3.1).
_CT_UNITS: Final = frozenset({"HU_MOD", "OD", "MGML", "Z_EFF", "ED", "EDW", "PCT"})
UNSPECIFIED: Final = "US"
"""What many scanners write as RescaleType of plain CT: their values do not say what they are."""

_CT_MAPS: Final = {
    "EFF_ATOMIC_NUM": "Z_EFF",
    "ELECTRON_DENSITY": "ED",
    "MAT_SPECIFIC": "MAP",
    "MAT_FRACTIONAL": "MAP",
    "MAT_VALUE_BASED": "MAP",
}
_PERFUSION: Final = dict.fromkeys(("CBF", "CBV", "MTT", "TTP", "TMAX"), "MAP")
_MR_MAPS: Final = {
    "P": "PHASE",
    "PHASE": "PHASE",
    "PHASE MAP": "PHASE",
    "VELOCITY MAP": "PHASE",
    "R": "REAL",
    "REAL": "REAL",
    "I": "IMAGINARY",
    "IMAGINARY": "IMAGINARY",
    "ADC": "ADC",
    "EADC": "ADC",
    "FA": "FA",
    **dict.fromkeys(("T1 MAP", "T2 MAP", "T2_STAR MAP", "T1MAP", "T2MAP", "FIELD_MAP"), "MAP"),
}
QUANTITIES: Final = tuple(
    sorted({*_CT_UNITS, *_CT_MAPS.values(), *_MR_MAPS.values(), *_PERFUSION.values(), "OTHER"})
)
"""Names of what values may be besides Hounsfield units and magnitude."""


def may_be_volume(header: Header) -> bool:
    """Whether the object is a cross-section by its storage class, or by modality without one."""
    if header.sop_class:
        return header.sop_class in VOLUME_CLASSES
    return header.modality in VOLUME_MODALITIES and header.rows > 0


def is_localizer(header: Header) -> bool:
    """Whether the image was taken to plan others (PS3.3 C.8.2.1.1.1)."""
    return "LOCALIZER" in header.image_type


def is_mosaic(header: Header) -> bool:
    """Whether many slices are tiled in the one image."""
    return not _MOSAIC_TYPES.isdisjoint(header.image_type)


def quantity(one: Slice) -> str:
    """What the values of a slice are, one of ``QUANTITIES``; ``""`` for a plain image.

    That is Hounsfield units in CT and the magnitude in MR. Only defined terms are looked at: what a
    header says in its own words is ``"OTHER"``.
    """
    header, frame = one
    kinds = [*header.image_type[2:], *frame.phase.get("image type", "").split("\\")]
    if header.modality == "CT":
        units = frame.phase.get("quantity", "").upper()
        if units not in {"", "HU", UNSPECIFIED}:
            return units if units in _CT_UNITS else "OTHER"
        return _first(kinds, _CT_MAPS | _PERFUSION)
    if header.modality == "MR":
        return _first([frame.phase.get("component", ""), *kinds], _MR_MAPS | _PERFUSION)
    return ""


def _first(terms: Iterable[str], names: Mapping[str, str]) -> str:
    return next((names[term.upper()] for term in terms if term.upper() in names), "")
