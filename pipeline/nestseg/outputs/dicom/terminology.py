"""What a label means in codes: SNOMED CT as DICOM PS3.16 lists it, and the colour to draw it in.

Colours are those that 3D Slicer and dcmqi recommend for a structure, where they know it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from pydicom.sr.coding import Code

from nestseg_prep.errors import InputError

Rgb: TypeAlias = tuple[int, int, int]

PRIVATE_SCHEME: Final = "99NESTSEG"
_SHORT: Final = 16  # characters of a CodeValue
_LONG: Final = 64  # characters of a CodeMeaning
_UNKNOWN_COLOUR: Final = (128, 174, 128)

_ANATOMY: Final = Code("91723000", "SCT", "Anatomical Structure")
_ABNORMAL: Final = Code("49755003", "SCT", "Morphologically Abnormal Structure")
_TISSUE: Final = Code("85756007", "SCT", "Tissue")
# The category that claims least about something that has no code.
_SPATIAL: Final = Code("309825002", "SCT", "Spatial and Relational Concept")

_MODIFIERS: Final = {
    "left": Code("7771000", "SCT", "Left"),
    "right": Code("24028007", "SCT", "Right"),
    "anterior": Code("255549009", "SCT", "Anterior"),
    "posterior": Code("255551008", "SCT", "Posterior"),
}
# Names as they stand in labels → code, meaning, colour.
_TABLE: Final[tuple[tuple[Code, tuple[str, ...], str, str, Rgb], ...]] = (
    (_ANATOMY, ("adrenal gland", "adrenal"), "23451007", "Adrenal gland", (249, 186, 150)),
    (_ANATOMY, ("amygdala",), "4958002", "Amygdala", (98, 153, 112)),
    (_ANATOMY, ("aorta",), "15825003", "Aorta", (224, 97, 76)),
    (_ANATOMY, ("brain",), "12738006", "Brain", (250, 250, 225)),
    (_ANATOMY, ("caudate", "caudate nucleus"), "11000004", "Caudate Nucleus", (30, 111, 85)),
    (_ANATOMY, ("clavicle",), "51299004", "Clavicle", (205, 179, 108)),
    (_ANATOMY, ("colon",), "71854001", "Colon", (204, 168, 143)),
    (_ANATOMY, ("duodenum",), "38848004", "Duodenum", (255, 253, 229)),
    (_ANATOMY, ("esophagus", "oesophagus"), "32849002", "Esophagus", (211, 171, 143)),
    (_ANATOMY, ("gallbladder",), "28231008", "Gallbladder", (139, 150, 98)),
    (_ANATOMY, ("heart",), "80891009", "Heart", (206, 110, 84)),
    (_ANATOMY, ("hippocampus",), "5366008", "Hippocampus", (196, 132, 92)),
    (_ANATOMY, ("kidney",), "64033007", "Kidney", (185, 102, 83)),
    (_ANATOMY, ("liver",), "10200004", "Liver", (221, 130, 101)),
    (_ANATOMY, ("lung",), "39607008", "Lung", (197, 165, 145)),
    (_ANATOMY, ("lymph node",), "59441001", "Lymph Node", (68, 172, 100)),
    (_ANATOMY, ("mandible",), "91609006", "Mandible", (222, 198, 101)),
    (_ANATOMY, ("pancreas",), "15776009", "Pancreas", (249, 180, 111)),
    (_ANATOMY, ("prostate",), "41216001", "Prostate", (230, 158, 140)),
    (_ANATOMY, ("putamen",), "89278009", "Putamen", (210, 157, 166)),
    (_ANATOMY, ("rib",), "113197003", "Rib", (253, 232, 158)),
    (_ANATOMY, ("skull",), "89546000", "Skull", (241, 213, 144)),
    (_ANATOMY, ("small bowel", "small intestine"), "30315005", "Small intestine", (205, 167, 142)),
    (_ANATOMY, ("spinal cord",), "2748008", "Spinal cord", (244, 214, 49)),
    (_ANATOMY, ("spleen",), "78961009", "Spleen", (157, 108, 162)),
    (_ANATOMY, ("sternum",), "56873002", "Sternum", (244, 217, 154)),
    (_ANATOMY, ("stomach",), "69695003", "Stomach", (216, 132, 105)),
    (_ANATOMY, ("thalamus",), "42695009", "Thalamus", (122, 101, 38)),
    (_ANATOMY, ("thyroid", "thyroid gland"), "69748006", "Thyroid", (62, 162, 114)),
    (_ANATOMY, ("trachea",), "44567001", "Trachea", (182, 228, 255)),
    (_ANATOMY, ("bladder", "urinary bladder"), "89837001", "Bladder", (222, 154, 132)),
    (_ANATOMY, ("uterus",), "35039007", "Uterus", (255, 181, 158)),
    (_ANATOMY, ("vertebra",), "51282000", "Vertebra", (226, 202, 134)),
    (_TISSUE, ("bone",), "272673000", "Bone", (241, 214, 145)),
    (_TISSUE, ("fat", "adipose tissue"), "55603005", "Fat", (230, 220, 70)),
    (_TISSUE, ("gray matter", "grey matter"), "389081007", "Gray Matter", (200, 200, 235)),
    (_TISSUE, ("muscle",), "71616004", "Muscle", (192, 104, 88)),
    (_TISSUE, ("skin",), "39937001", "Skin", (177, 122, 101)),
    (_TISSUE, ("white matter",), "389080008", "White Matter", (250, 250, 210)),
    (_ABNORMAL, ("edema", "oedema"), "79654002", "Edema", (140, 224, 228)),
    (_ABNORMAL, ("hemorrhage", "haemorrhage"), "50960005", "Hemorrhage", (188, 65, 28)),
    (_ABNORMAL, ("lesion",), "52988006", "Lesion", (144, 238, 144)),
    (_ABNORMAL, ("mass",), "4147007", "Mass", (144, 238, 144)),
    (_ABNORMAL, ("necrosis",), "6574001", "Necrosis", (216, 191, 216)),
    (_ABNORMAL, ("nodule",), "27925004", "Nodule", (144, 238, 144)),
    (_ABNORMAL, ("tumor", "tumour", "neoplasm"), "108369006", "Neoplasm", (144, 238, 144)),
)
_PLURALS: Final = {"vertebrae": "vertebra", "ribs": "rib"}


@dataclass(frozen=True)
class Concept:
    """What a segment shows.

    Attributes:
        category: Segmented Property Category (CID 7150).
        type: Segmented Property Type (CID 7151), or a code of our own that repeats the label.
        modifier: which part or side of it, if any.
        colour: red, green, blue from 0 to 255.
    """

    category: Code
    type: Code
    modifier: Code | None
    colour: Rgb

    @property
    def interpreted_type(self) -> str:
        """RT ROI Interpreted Type: ``"ORGAN"`` for anatomy, else ``""``.

        Whether a lesion is a target is for an oncologist to say.
        """
        return "ORGAN" if self.category in (_ANATOMY, _TISSUE) else ""


_KNOWN: Final = {
    name: (category, Code(value, "SCT", meaning), colour)
    for category, names, value, meaning, colour in _TABLE
    for name in names
}


def concept_of(label: str, codes: Mapping[str, Any] | None = None) -> Concept:
    """The codes of a label.

    Args:
        label: its name: ``"left kidney"``, ``"kidney_left"``, ``"lungs"``, whatever a bundle says.
        codes: a bundle's own: label → ``{"category": [value, scheme, meaning], "type": [...],
            "modifier": [...], "colour": [r, g, b]}``; ``modifier`` and ``colour`` may be missing.

    Returns:
        The bundle's codes, else those of the table, else a private code that repeats the label.

    Raises:
        InputError: the bundle's codes have another form.
    """
    if codes and label in codes:
        return _given(label, codes[label])
    words = re.sub(r"[^a-z0-9]+", " ", label.lower()).split()
    sides = [word for word in words if word in _MODIFIERS]
    name = " ".join(word for word in words if word not in _MODIFIERS)
    known = next((_KNOWN[form] for form in _singulars(name) if form in _KNOWN), None)
    if known is None or len(sides) > 1:
        return Concept(_SPATIAL, _private(label), None, _UNKNOWN_COLOUR)
    category, kind, colour = known
    return Concept(category, kind, _MODIFIERS[sides[0]] if sides else None, colour)


def _singulars(name: str) -> Sequence[str]:
    return name, _PLURALS.get(name, name), name.removesuffix("s")


def _private(label: str) -> Code:
    """A code of our own; its value is the label, or a digest where that is too long for one."""
    short = re.sub(r"[^A-Z0-9]+", "_", label.upper()).strip("_")
    if not 0 < len(short) <= _SHORT or not label.isascii():
        short = hashlib.sha256(label.encode()).hexdigest()[:_SHORT].upper()
    return Code(short, PRIVATE_SCHEME, label[:_LONG])


def _given(label: str, entry: Any) -> Concept:
    try:
        red, green, blue = (int(part) for part in entry.get("colour", _UNKNOWN_COLOUR))
        if not 0 <= min(red, green, blue) <= max(red, green, blue) <= 255:
            raise ValueError
        modifier = entry.get("modifier")
        return Concept(
            _code(entry["category"]),
            _code(entry["type"]),
            _code(modifier) if modifier else None,
            (red, green, blue),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        msg = (
            f"segment_codes of {label!r}: give `category` and `type` as [value, scheme, meaning] "
            "and `colour` as three numbers from 0 to 255"
        )
        raise InputError(msg) from error


def _code(parts: Any) -> Code:
    value, scheme, meaning = parts
    if isinstance(parts, str) or not all(
        isinstance(part, str) and part for part in (value, scheme, meaning)
    ):
        raise ValueError
    return Code(value, scheme, meaning)
