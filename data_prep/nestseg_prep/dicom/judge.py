"""A group of slices → a series reference: accepted, or refused with the reason. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from pydicom import config
from pydicom.uid import UID, RLELossless

from nestseg_prep import affine as affines
from nestseg_prep.dicom import kinds, planes, terms
from nestseg_prep.dicom import stack as stacks
from nestseg_prep.dicom.findings import Code, Finding
from nestseg_prep.dicom.grouping import Group, Owned, PixelDigest, by_owner, split
from nestseg_prep.dicom.headers import Header, Slice
from nestseg_prep.dicom.lengths import Pixels
from nestseg_prep.dicom.references import SeriesRef, SliceRef
from nestseg_prep.dicom.rules import SAFE, Rules
from nestseg_prep.site_key import keyed_hash
from nestseg_prep.source import SourceGrid, SourceSlice

# 2000 slices of 1024 x 1024 in float32 fit; a header that lies about its size does not.
VOLUME_BYTES_LIMIT: Final = 16 * 2**30
_BITS: Final = (8, 16, 32)
# HU: a scale that ends before these cannot hold air, or bone.
_HIGHEST_AIR: Final = -500
_LOWEST_BONE: Final = 500


def short_hash(text: str) -> str:
    """Twelve hexadecimal digits that stand for a UID or a path in names and logs of this site."""
    return keyed_hash(text).hex()[:12]


def judge_series(
    headers: Sequence[Header], digest: PixelDigest, rules: Rules = SAFE
) -> list[SeriesRef]:
    """Splits the files of one series and judges each part.

    Args:
        headers: the files that share a SeriesInstanceUID (or a folder, where it is empty).
        digest: tells whether two slices hold the same pixels.
        rules: what is refused.
    """
    cut = sum(_is_cut(header) for header in headers)
    # One cut file puts the whole series aside: without its slice the rest may still look perfect.
    doubts = [Finding(Code.TRUNCATED, f"{cut} of {len(headers)} files")] if cut else []
    return [
        ref for owned in by_owner(headers) for ref in _judge_owned(owned, doubts, digest, rules)
    ]


def judge_apart(
    headers: Sequence[Header], digest: PixelDigest, rules: Rules = SAFE
) -> list[SeriesRef]:
    """Judges slices that have a SeriesInstanceUID each (``grouping.one_slice_each``).

    Where they make a volume together they are one series, refused unless ``rules.regroup`` asks
    for it. Otherwise each is judged by itself.
    """
    together = judge_series(headers, digest, rules)
    if not any(ref.refusal is None or ref.refusal.code is Code.MISSING_SLICE for ref in together):
        return [ref for header in headers for ref in judge_series([header], digest, rules)]
    code = Code.REGROUPED if rules.regroup else Code.SERIES_PER_SLICE
    note = Finding(code, f"{len(headers)} series of one slice")
    return [replace(ref, findings=(note, *ref.findings)) for ref in together]


def _judge_owned(
    owned: Owned, doubts: Sequence[Finding], digest: PixelDigest, rules: Rules
) -> list[SeriesRef]:
    """Judges what one patient and study have of a series.

    Keys are made from all three names, so that a series is called the same whatever else lies
    beside it.
    """
    groups = split(owned.headers, digest)
    # Without a SeriesInstanceUID, what the files are names them, not where they lie.
    uids = {header.series_uid for header in owned.headers}
    lone = len(uids) == 1 and "" not in uids
    name = uids.pop() if lone else " ".join(sorted(one.sop_uid for one in owned.headers))
    key = short_hash("\0".join([name, owned.study_uid, *owned.patient]))
    study = short_hash("\0".join([owned.study_uid, *owned.patient]))
    found = []
    for number, group in enumerate(groups, start=1):
        whole = replace(group, findings=(*doubts, *owned.findings, *group.findings))
        ref = _judge(whole, key if len(groups) == 1 else f"{key}-{number}", rules)
        found.append(replace(ref, study_key=study, series_uid=ref.series_uid if lone else ""))
    return found


def _judge(group: Group, key: str, rules: Rules) -> SeriesRef:
    headers = list(dict.fromkeys(header for header, _ in group.slices))
    first = headers[0]
    findings = [*group.findings, *_object_findings(headers)]
    stack = None
    if kinds.may_be_volume(first):
        stacked = _stack(group, findings, rules)
        if isinstance(stacked, stacks.Stack):
            stack = stacked
            findings += stack.findings
        else:
            findings += stacked
        findings += _notes(group, headers)
    shape = stack.shape if stack else (first.columns, first.rows, len(group.slices))
    if 4 * int(np.prod(shape, dtype=object)) > VOLUME_BYTES_LIMIT:
        findings.append(Finding(Code.TOO_LARGE, "x".join(map(str, shape))))
    slices = stack.slices if stack else group.slices
    affine = stack.affine if stack else None
    return SeriesRef(
        kind="dicom",
        key=key,
        study_key="",
        series_uid=first.series_uid,
        study_uid=first.study_uid,
        modality=terms.modality(first.modality) or None,
        body_part=terms.body_part(first.body_part),
        body_part_said=first.body_part,
        orientation=None if affine is None else affines.orientation(affine),
        shape=shape if all(shape) else None,
        spacing=None if affine is None else affines.spacing(affine),
        affine=affine,
        files=tuple(dict.fromkeys(header.path for header, _ in slices)),
        findings=tuple(dict.fromkeys(findings)),
        description=first.description,
        kernel=first.kernel,
        acquired=first.acquired,
        part=group.part,
        quantity=_quantity(group),
        slices=tuple(
            SliceRef(
                header.path,
                frame.index,
                header.sop_uid,
                frame.slope,
                frame.intercept,
                header.padding,
            )
            for header, frame in (stack.slices if stack else ())
        ),
        source=_source(stack) if stack else None,
        stored_range=_stored_range(headers),
    )


def _source(stack: stacks.Stack) -> SourceGrid:
    header = stack.slices[0].header
    stored = tuple(SourceSlice(header.sop_uid, frame.index) for header, frame in stack.slices)
    return SourceGrid(stored, header.rows, header.columns, stack.first_pixels)


def _stack(group: Group, findings: Sequence[Finding], rules: Rules) -> stacks.Stack | list[Finding]:
    """The geometry, unless a finding made it pointless to ask."""
    if any(finding.refuses and finding.code is not Code.TRUNCATED for finding in findings):
        return []
    broken = planes.check_planes(group.slices)
    return [broken] if broken else stacks.stack(group.slices, rules)


def _stored_range(headers: Sequence[Header]) -> tuple[int, int]:
    """Lowest and highest value that the declared bits can hold."""
    ends = []
    for header in headers:
        # A nonsensical count is refused elsewhere; here it must only do no harm.
        bits = min(max(header.bits_stored, 1), max(_BITS))
        lowest = -(1 << (bits - 1)) if header.signed else 0
        ends.append((lowest, lowest + (1 << bits) - 1))
    return min(low for low, _ in ends), max(high for _, high in ends)


def _is_cut(header: Header) -> bool:
    return kinds.may_be_volume(header) and header.pixels in {Pixels.CUT, Pixels.ABSENT}


def _is_colour(header: Header) -> bool:
    grey = ("MONOCHROME1", "MONOCHROME2", "")
    return header.samples > 1 or header.photometric not in grey


def _is_multi_frame_without_places(header: Header) -> bool:
    frames = len(header.frames) if header.enhanced else 1
    return header.frame_count != frames or header.concatenated


def _is_undecodable(header: Header) -> bool:
    return header.transfer_syntax not in kinds.DECODED_SYNTAXES or (
        header.bits_allocated not in _BITS or not 1 <= header.bits_stored <= header.bits_allocated
    )


def _is_misplaced(header: Header) -> bool:
    """Whether the bits of a pixel lie outside it, or where a compressed stream has no place."""
    if header.high_bit == header.bits_stored - 1:
        return False
    packed = header.transfer_syntax not in kinds.NATIVE_SYNTAXES | {RLELossless}
    return packed or not header.bits_stored <= header.high_bit + 1 <= header.bits_allocated


def _is_rescaled_in_vain(header: Header) -> bool:
    return header.lookup_table or any(frame.slope == 0 for frame in header.frames)


# In the order in which a person would ask.
_OBJECT_CHECKS: Final[tuple[tuple[Code, Callable[[Header], bool]], ...]] = (
    (Code.FLOAT_PIXELS, lambda header: header.pixels is Pixels.FLOAT),
    (Code.COLOUR, _is_colour),
    (Code.NOT_AN_IMAGE_VOLUME, lambda header: not kinds.may_be_volume(header)),
    (Code.LOCALIZER, kinds.is_localizer),
    (Code.MOSAIC, kinds.is_mosaic),
    (Code.MULTI_FRAME, _is_multi_frame_without_places),
    (Code.WRONG_TRANSFER_SYNTAX, lambda header: header.pixels is Pixels.MISLABELLED),
    (Code.UNSUPPORTED_TRANSFER_SYNTAX, _is_undecodable),
    (Code.HIGH_BIT, _is_misplaced),
    (Code.RESCALE_UNUSABLE, _is_rescaled_in_vain),
)


def _object_findings(headers: Sequence[Header]) -> list[Finding]:
    """The first check that applies: what follows from it is no news."""
    for code, applies in _OBJECT_CHECKS:
        if count := sum(map(applies, headers)):
            if code is Code.NOT_AN_IMAGE_VOLUME:
                return [Finding(code, _class_name(headers[0].sop_class))]
            return [Finding(code, f"{count} of {len(headers)} files")]
    return []


def _class_name(sop_class: str) -> str:
    """The standard's own name; a private class is not spelt out: it could hold anything."""
    uid = UID(sop_class, config.IGNORE)
    return uid.name if uid.name != sop_class else "private storage class"


def _notes(group: Group, headers: Sequence[Header]) -> list[Finding]:
    """What its headers say of a series, besides its geometry and the nature of its objects."""
    is_ct = headers[0].modality == "CT"
    rescaled = [frame.rescaled for _, frame in group.slices]
    quantity = _quantity(group)
    checks = (
        (Code.RESCALE_INCOMPLETE, _is_rescaled_in_part(group)),
        (Code.NO_SERIES_UID, not headers[0].series_uid),
        (Code.NO_FRAME_OF_REFERENCE, any(not header.frame_of_reference for header in headers)),
        (Code.COMPRESSED_FILE, any(header.gzipped for header in headers)),
        (Code.MONOCHROME1, any(header.photometric == "MONOCHROME1" for header in headers)),
        (Code.SHIFTED_PIXELS, any(one.high_bit + 1 > one.bits_stored for one in headers)),
        (Code.RESCALE_MISSING, is_ct and not any(rescaled)),
        (Code.UNSPECIFIED_UNIT, is_ct and any(map(_is_unspecified, group.slices))),
        (
            Code.IMPLAUSIBLE_HOUNSFIELD,
            is_ct and not quantity and all(rescaled) and _cannot_hold_hounsfield(group),
        ),
        (Code.PADDING_VALUE, any(header.padding is not None for header in headers)),
    )
    found = [Finding(code) for code, applies in checks if applies]
    return [*found, Finding(Code.OTHER_QUANTITY, quantity)] if quantity else found


def _quantity(group: Group) -> str:
    """What the values are; of several quantities in one volume the first that is not plain."""
    return next(filter(None, map(kinds.quantity, group.slices)), "")


def _is_unspecified(one: Slice) -> bool:
    return one.frame.phase.get("quantity", "").upper() == kinds.UNSPECIFIED


def _is_rescaled_in_part(group: Group) -> bool:
    """Whether slices without slope and intercept lie among others that need them."""
    frames = [frame for _, frame in group.slices]
    needed = group.slices[0].header.modality == "CT" or any(
        (frame.slope, frame.intercept) != (1.0, 0.0) for frame in frames
    )
    return needed and len({frame.rescaled for frame in frames}) > 1


def _cannot_hold_hounsfield(group: Group) -> bool:
    """Whether no stored value could be air, or none bone."""
    low, high = _stored_range([header for header, _ in group.slices])
    scales = {(frame.slope, frame.intercept) for _, frame in group.slices}
    ends = [slope * stored + intercept for slope, intercept in scales for stored in (low, high)]
    return min(ends) > _HIGHEST_AIR or max(ends) < _LOWEST_BONE
