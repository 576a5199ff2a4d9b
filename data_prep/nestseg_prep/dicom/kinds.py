"""What kind of DICOM object a header describes: tables of the standard's UIDs."""

from __future__ import annotations

from typing import Final

from pydicom import uid

from nestseg_prep.dicom.headers import Header

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
