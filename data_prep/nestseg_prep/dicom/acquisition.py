"""Tags that change what an image shows: which volumes they tell apart, and how to say so.

A phrase about a volume is made from numbers and the standard's defined terms alone. Free text, such
as the name of a kernel or of a contrast agent, may hold anything: it is compared, never repeated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import date
from typing import Final, Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["number", "text", "seconds"]

# Numbers closer than this are one setting of the scanner.
_SAME_SETTING: Final = 0.02
_DECIMALS: Final = 3


class Tag(NamedTuple):
    """A tag, or the equivalents of classic and enhanced objects under one name.

    Attributes:
        name: of the setting.
        phrase: what a volume is with a value in place of ``{}``.
        kind: how values are compared.
        keywords: elements that hold it, what frames say before what their object says; the first
            that is present counts.
        setting: whether slices that differ in it never make one volume. Other tags only tell apart
            slices at the same place.
        blocks: whether it tells volumes apart that lie one behind the other. Scanners describe the
            slabs of one volume differently in tags whose terms are their own.
        drifts: whether slices of one volume may each have a value of their own, as times do.
        terms: defined terms → words.
    """

    name: str
    phrase: str
    kind: Kind
    keywords: tuple[str, ...]
    setting: bool = True
    blocks: bool = True
    drifts: bool = False
    terms: Mapping[str, str] = {}


_COMPONENTS: Final = {
    "M": "magnitude",
    "P": "phase",
    "R": "real",
    "I": "imaginary",
    "PHASE MAP": "phase",
    "MAGNITUDE": "magnitude",
    "PHASE": "phase",
    "REAL": "real",
    "IMAGINARY": "imaginary",
    "W": "water",
    "WATER": "water",
    "F": "fat",
    "FAT": "fat",
    "IP": "in phase",
    "IN_PHASE": "in phase",
    "OP": "out of phase",
    "OUT_PHASE": "out of phase",
    "ADC": "ADC",
    "TRACEW": "trace",
    "FA": "FA",
}
_QUANTITIES: Final = {
    "HU": "HU",
    "HU_MOD": "modified HU",
    "US": "unspecified units",
    "OD": "optical density",
    "MGML": "mg/ml",
    "Z_EFF": "effective atomic number",
    "ED": "electron density",
    "EDW": "electron density relative to water",
    "PCT": "percent",
}
_YES_NO: Final = {"": "without contrast agent", "NO": "without contrast agent"}

# In the order in which they are tried: what names a volume best comes first, clock times last.
TAGS: Final = (
    Tag("time point", "time point {}", "number",
        ("TemporalPositionIndex", "TemporalPositionIdentifier")),
    Tag("echo", "echo {}", "number", ("EchoNumbers",)),
    Tag("echo time", "echo time {} ms", "number", ("EffectiveEchoTime", "EchoTime")),
    Tag("inversion time", "inversion time {} ms", "number", ("InversionTimes", "InversionTime")),
    Tag("flip angle", "flip angle {}°", "number", ("FlipAngle",)),
    Tag("b-value", "b-value {} s/mm²", "number", ("DiffusionBValue",)),
    Tag("diffusion", "diffusion {}", "text", ("DiffusionDirectionality",), setting=False,
        terms={"ISOTROPIC": "isotropic", "DIRECTIONAL": "along a direction", "NONE": "none",
               "BMATRIX": "by a matrix"}),
    Tag("diffusion direction", "diffusion direction {}", "number",
        ("DiffusionGradientOrientation",)),
    Tag("component", "{}", "text", ("ComplexImageComponent",), terms=_COMPONENTS),
    Tag("image type", "image type {}", "text", ("FrameType", "ImageType"), blocks=False,
        terms=_COMPONENTS),
    Tag("quantity", "values in {}", "text", ("RescaleType",), terms=_QUANTITIES),
    Tag("units", "units {}", "text", ("Units",), terms={"BQML": "Bq/ml", "CNTS": "counts"}),
    Tag("trigger time", "trigger time {} ms", "number",
        ("NominalCardiacTriggerDelayTime", "TriggerTime"), drifts=True),
    Tag("cardiac phase", "cardiac phase {} %", "number", ("NominalPercentageOfCardiacPhase",)),
    Tag("respiratory phase", "respiratory phase {} %", "number",
        ("NominalPercentageOfRespiratoryPhase",)),
    Tag("frame time", "frame time {} ms", "number", ("FrameReferenceTime",), setting=False,
        drifts=True),
    Tag("contrast agent", "contrast agent {}", "text",
        ("ContrastBolusAgentAdministered", "ContrastBolusAgent"), terms=_YES_NO),
    Tag("tube voltage", "{} kV", "number", ("KVP",)),
    Tag("energy", "{} keV", "number", ("MonoenergeticEnergyEquivalent",)),
    Tag("kernel", "kernel {}", "text", ("ConvolutionKernel",)),
    Tag("reconstruction diameter", "reconstruction diameter {} mm", "number",
        ("ReconstructionDiameter",)),
    Tag("scan options", "scan options {}", "text", ("ScanOptions",), blocks=False),
    Tag("repetition time", "repetition time {} ms", "number", ("RepetitionTime",), setting=False),
    Tag("slice thickness", "slice thickness {} mm", "number", ("SliceThickness",), setting=False),
    Tag("origin", "{}", "text", (), setting=False,
        terms={"ORIGINAL": "original images", "DERIVED": "derived images"}),
    Tag("compression", "{}", "text", ("LossyImageCompression",), setting=False,
        terms={"00": "no lossy compression", "01": "lossy compression"}),
    Tag("acquisition", "acquisition {}", "number",
        ("FrameAcquisitionNumber", "AcquisitionNumber"), setting=False),
    Tag("acquisition time", "acquired {} s after the first", "seconds",
        ("FrameAcquisitionDateTime", "FrameReferenceDateTime", "AcquisitionDateTime"),
        setting=False, drifts=True),
    Tag("content time", "made {} s after the first", "seconds", (), setting=False, drifts=True),
)  # fmt: skip
BY_NAME: Final = {tag.name: tag for tag in TAGS}
# Dates and times that come in two elements.
_CLOCKS: Final = {
    "acquisition time": ("AcquisitionDate", "AcquisitionTime"),
    "content time": ("ContentDate", "ContentTime"),
}
KEYWORDS: Final = (
    *(keyword for tag in TAGS for keyword in tag.keywords),
    *(keyword for pair in _CLOCKS.values() for keyword in pair),
)
_TAG_OF: Final = {keyword: tag for tag in TAGS for keyword in tag.keywords}
_GENERALITY: Final = {keyword: place for place, keyword in enumerate(KEYWORDS)}


def settings(elements: Mapping[str, str]) -> dict[str, str]:
    """What a frame says of its acquisition, from the texts of its elements.

    Args:
        elements: keyword → text; several values are joined by a backslash.

    Returns:
        Name of a tag → text: numbers as they stand, times in seconds.
    """
    found: dict[str, str] = {}
    # The more general statement first, so that the more exact one replaces it.
    for keyword in sorted(elements, key=_GENERALITY.__getitem__, reverse=True):
        if tag := _TAG_OF.get(keyword):
            text = elements[keyword]
            known = _seconds(text[:8], text[8:]) if tag.kind == "seconds" else text
            if known:
                found[tag.name] = known
    for name, (day, time) in _CLOCKS.items():
        if time in elements and name not in found:
            found[name] = _seconds(elements.get(day, ""), elements[time])
    if kind := found.pop("image type", ""):
        origin, _, rest = kind.partition("\\")
        found["origin"] = origin
        # The second value tells original from secondary; what is shown stands behind it.
        if flavour := rest.partition("\\")[2]:
            found["image type"] = flavour
    return found


def _seconds(day: str, time: str) -> str:
    """Seconds since a day long ago; ``""`` where there is no time of day."""
    with suppress(ValueError):
        digits = time.replace(":", "").partition("&")[0].partition("+")[0].partition("-")[0]
        hours, minutes, rest = int(digits[:2]), int(digits[2:4] or 0), float(digits[4:] or 0)
        days = 0
        with suppress(ValueError):
            days = date(int(day[:4]), int(day[4:6]), int(day[6:8])).toordinal()
        return repr(86400.0 * days + 3600 * hours + 60 * minutes + rest)
    return ""


def number(tag: Tag, text: str) -> float | None:
    """A value as a number, ``None`` where it is none or several."""
    if tag.kind == "text":
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def alike(tag: Tag, texts: Sequence[str]) -> dict[str, int]:
    """Numbers the different values of a tag, in the order in which a person would list them.

    Numbers are in order of size, and those closer than 2 % are one value; in text, case and blanks
    do not count. A missing value comes first.
    """
    groups: dict[str, int] = {}
    last: float | None = None
    last_text: str | None = None
    place = -1
    for text in sorted(set(texts), key=ranked(tag)):
        value, plain = number(tag, text), _plain(text)
        if value is not None and last is not None:
            same = abs(value - last) <= _tolerance(tag, value, last)
        else:
            same = value is None and last is None and plain == last_text
        place += not same
        last, last_text = value, plain
        groups[text] = place
    return groups


def _tolerance(tag: Tag, first: float, second: float) -> float:
    return 0.0 if tag.kind == "seconds" else _SAME_SETTING * max(abs(first), abs(second))


def ranked(tag: Tag) -> Callable[[str], tuple[int, float, str]]:
    """A key to sort values by: a missing one first, then numbers by size, then text."""

    def rank(text: str) -> tuple[int, float, str]:
        value = number(tag, text)
        if value is not None:
            return 1, value, ""
        return (2, 0.0, _plain(text)) if text else (0, 0.0, "")

    return rank


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def phrases(tag: Tag, texts: Sequence[Sequence[str]]) -> list[str]:
    """Says what each of several volumes is.

    Args:
        tag: what tells them apart.
        texts: for each volume its values of the tag, the smallest first.
    """
    first = number(tag, texts[0][0]) or 0.0
    said = [_phrase(tag, own[0], first if tag.kind == "seconds" else 0.0) for own in texts]
    if tag.name == "contrast agent" and len(said) == 2:
        said = [one or "with contrast agent" for one in said]
    if "" not in said and len(set(said)) == len(said):
        return said
    return [f"{tag.name} {n} of {len(said)}" for n in range(1, len(said) + 1)]


def _phrase(tag: Tag, text: str, start: float) -> str:
    """The same for one value; ``""`` where it is neither a number nor a defined term."""
    value = number(tag, text)
    if value is not None:
        return tag.phrase.format(f"{round(value - start, _DECIMALS):.12g}")
    if vector := _vector(tag, text):
        return tag.phrase.format(vector)
    if word := _word(tag, text):
        return word if tag.name in _BARE else tag.phrase.format(word)
    return "" if text else f"no {tag.name}"


# Their words need no name in front.
_BARE: Final = frozenset({"image type", "contrast agent"})


def _word(tag: Tag, text: str) -> str:
    """The words for a value's defined terms; ``""`` where there are none."""
    words = [tag.terms[term] for one in text.split("\\") if (term := one.upper()) in tag.terms]
    return ", ".join(dict.fromkeys(words))


def _vector(tag: Tag, text: str) -> str:
    """Several numbers in brackets; ``""`` where the value is something else."""
    if tag.kind != "number" or "\\" not in text:
        return ""
    try:
        numbers = [f"{float(one):.3g}" for one in text.split("\\")]
    except ValueError:
        return ""
    return f"({', '.join(numbers)})"
