"""Headers → groups that may be one volume each. Pure functions over header records.

A SeriesInstanceUID is what a scanner's user calls a series; it may hold a scout in front, three
planes, two phases. Each split says so in a finding, and no two groups ever merge.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, TypeAlias

from nestseg_prep.dicom import kinds, phases, planes
from nestseg_prep.dicom.findings import Code, Finding
from nestseg_prep.dicom.headers import Header, Slice
from nestseg_prep.dicom.lengths import Pixels

ORIENTATION_TOLERANCE: Final = 1e-3
# Over 1000 pixels it adds up to a tenth of a millimetre.
_SPACING_TOLERANCE_MM: Final = 1e-4
# Of another patient or study: fewer are more likely mislabelled than a volume.
_FEWEST_SLICES: Final = 3

PixelDigest: TypeAlias = Callable[[Slice], str]


@dataclass(frozen=True)
class Group:
    """Slices that may form one volume.

    Attributes:
        slices: in an order that does not depend on their files' names.
        findings: what was found while they were told apart.
        part: what they are among the volumes of their series ("echo 2"); ``""`` for a lone volume.
    """

    slices: tuple[Slice, ...]
    findings: tuple[Finding, ...] = ()
    part: str = ""

    @property
    def refused(self) -> bool:
        return any(finding.refuses for finding in self.findings)

    def noting(self, *findings: Finding) -> Group:
        """The same group with more findings."""
        return replace(self, findings=(*self.findings, *findings))


class Owned(NamedTuple):
    """Files of one series that name one patient and one study.

    Attributes:
        study_uid: StudyInstanceUID.
        patient: ``Header.patient``, as complete as any file of the series gives it.
        headers: of the files.
        findings: what is not as it should be.
    """

    study_uid: str
    patient: tuple[str, str]
    headers: list[Header]
    findings: tuple[Finding, ...] = ()


def by_series(headers: Iterable[Header]) -> list[list[Header]]:
    """Groups headers by SeriesInstanceUID; files without one by their folder."""
    series: dict[tuple[str, str], list[Header]] = defaultdict(list)
    for header in headers:
        folder = "" if header.series_uid else str(header.path.parent)
        series[header.series_uid, folder].append(header)
    return [series[key] for key in sorted(series)]


def one_slice_each(
    series: Iterable[list[Header]],
) -> tuple[list[list[Header]], list[list[Header]]]:
    """Finds slices that have a SeriesInstanceUID each, and may be one series all the same.

    Args:
        series: as ``by_series`` returns them.

    Returns:
        The other series, and sets of slices that differ in nothing but their place.
    """
    others: list[list[Header]] = []
    twins: dict[str, list[Header]] = defaultdict(list)
    for headers in series:
        if len(headers) == 1 and (name := twin_name(headers[0])):
            twins[name] += headers
        else:
            others.append(headers)
    sets = []
    for alike in twins.values():
        if len(alike) < _FEWEST_SLICES:
            others += [[header] for header in alike]
        else:
            sets.append(alike)
    return others, sets


def twin_name(header: Header) -> str:
    """What a lone slice shares with others that may be of its series; ``""`` for all else."""
    frame = header.frames[0]
    if header.enhanced or not (header.series_uid and frame.position and frame.orientation):
        return ""
    if not _is_slice(header) or header.pixels is not Pixels.COMPLETE:
        return ""
    places = [round(cosine, 3) for cosine in frame.orientation], frame.spacing, frame.thickness
    names = header.study_uid, header.frame_of_reference, header.description, header.kernel
    kind = header.sop_class, header.modality, header.rows, header.columns, header.image_type
    return repr((header.patient, names, kind, places))


def by_owner(headers: Sequence[Header]) -> list[Owned]:
    """Splits the files of one SeriesInstanceUID by patient and study: nothing else comes first.

    A file without PatientID, or without its issuer, belongs to the patient that the others name,
    if it is one. Where several could be meant, or where one of several patients or studies has too
    few slices for a volume, all of them are refused: nobody knows whose slices those are.
    """
    known = {header.patient for header in headers}
    whole = [one for one in known if not any(_completes(other, one) for other in known - {one})]
    owners = {one: [other for other in whole if _completes(other, one)] for one in known}
    parts: dict[tuple[str, tuple[str, str]], list[Header]] = defaultdict(list)
    for header in headers:
        parts[header.study_uid, owners[header.patient][0]].append(header)
    several = len({patient for _, patient in parts}), len({study for study, _ in parts})
    slices = [sum(len(one.frames) for one in part if _is_slice(one)) for part in parts.values()]
    findings: list[Finding] = []
    unclear = any(len(found) > 1 for found in owners.values())
    if unclear or (max(several) > 1 and any(0 < count < _FEWEST_SLICES for count in slices)):
        detail = (
            f"{several[0]} patients, {several[1]} studies; {min(slices)} of {sum(slices)} slices"
        )
        findings.append(Finding(Code.MIXED_OWNERS, detail))
    elif several[0] > 1:
        findings.append(Finding(Code.SPLIT_BY_PATIENT, f"{several[0]} patients"))
    if several[1] > 1:
        findings.append(Finding(Code.SPLIT_BY_STUDY, f"{several[1]} studies"))
    unnamed = sum(header.patient not in owners[header.patient] for header in headers)
    if unnamed:
        findings.append(Finding(Code.PATIENT_UNNAMED, f"{unnamed} of {len(headers)} files"))
    return [Owned(*owner, parts[owner], tuple(findings)) for owner in sorted(parts)]


def _completes(whole: tuple[str, str], patient: tuple[str, str]) -> bool:
    return all(own in ("", other) for own, other in zip(patient, whole, strict=True))


def _is_slice(header: Header) -> bool:
    return kinds.may_be_volume(header) and not kinds.is_localizer(header)


def split(headers: Sequence[Header], digest: PixelDigest) -> list[Group]:
    """Splits the files of one series into groups that may be one volume each.

    Args:
        headers: files that share a SeriesInstanceUID.
        digest: tells whether two slices hold the same pixels; called only where places repeat.

    Returns:
        Groups in an order that does not depend on names or order of the files.
    """
    slices = sorted(
        (Slice(header, frame) for header in headers for frame in header.frames),
        key=lambda one: (one.header.sop_uid, one.frame.index, str(one.header.path)),
    )
    groups = [Group(tuple(slices))]
    for code, key in _SPLITS:
        groups = [part for group in groups for part in _split_by(group, code, key)]
    return [part for group in groups for part in _split_places(group, digest)]


def _kind(one: Slice) -> Hashable:
    header = one.header
    return header.sop_class, header.modality, kinds.is_localizer(header), header.enhanced


def _frame_of_reference(one: Slice) -> Hashable:
    return one.header.frame_of_reference


def _size(one: Slice) -> Hashable:
    return one.header.rows, one.header.columns


def _orientation(one: Slice) -> tuple[float, ...]:
    return one.frame.orientation or ()


def _spacing(one: Slice) -> tuple[float, ...]:
    return one.frame.spacing or ()


_SplitKey: TypeAlias = Callable[[Sequence[Slice]], list[Hashable]]


def _exactly(key: Callable[[Slice], Hashable]) -> _SplitKey:
    return lambda slices: [key(one) for one in slices]


def _nearly(key: Callable[[Slice], tuple[float, ...]], tolerance: float) -> _SplitKey:
    """Numbers that differ by less than the tolerance from the first of their kind are one."""

    def keys(slices: Sequence[Slice]) -> list[Hashable]:
        known: list[tuple[float, ...]] = []
        for value in sorted({key(one) for one in slices}):
            if not any(_close(value, other, tolerance) for other in known):
                known.append(value)
        return [
            next(value for value in known if _close(value, key(one), tolerance)) for one in slices
        ]

    return keys


def _close(first: tuple[float, ...], second: tuple[float, ...], tolerance: float) -> bool:
    return len(first) == len(second) and all(
        abs(a - b) <= tolerance for a, b in zip(first, second, strict=True)
    )


_SPLITS: Final[tuple[tuple[Code, _SplitKey], ...]] = (
    (Code.SPLIT_BY_KIND, _exactly(_kind)),
    (Code.SPLIT_BY_FRAME_OF_REFERENCE, _exactly(_frame_of_reference)),
    (Code.SPLIT_BY_SIZE, _exactly(_size)),
    (Code.SPLIT_BY_ORIENTATION, _nearly(_orientation, ORIENTATION_TOLERANCE)),
    (Code.SPLIT_BY_SPACING, _nearly(_spacing, _SPACING_TOLERANCE_MM)),
)


def _split_by(group: Group, code: Code, key: _SplitKey) -> list[Group]:
    parts = _partition(group.slices, key(group.slices))
    if len(parts) == 1:
        return [group]
    note = Finding(code, f"{len(parts)} parts")
    return [replace(group, slices=part).noting(note) for part in parts]


def _partition(slices: Sequence[Slice], keys: Sequence[Hashable]) -> list[tuple[Slice, ...]]:
    parts: dict[Hashable, list[Slice]] = defaultdict(list)
    for one, key in zip(slices, keys, strict=True):
        parts[key].append(one)
    return [tuple(parts[key]) for key in sorted(parts, key=_sortable)]


def _sortable(key: Hashable) -> tuple[tuple[int, float, str], ...]:
    """Orders keys of mixed types; numbers, also those in text, by their value."""
    items = key if isinstance(key, tuple) else (key,)
    return tuple(_rank(item) for item in items)


def _rank(item: object) -> tuple[int, float, str]:
    try:
        return 0, float(str(item)), ""
    except ValueError:
        return 1, 0.0, str(item)


def _split_places(group: Group, digest: PixelDigest) -> list[Group]:
    """Tells apart volumes of the same place, drops copies, and refuses what stays twofold."""
    header = group.slices[0].header
    one_slice_each = kinds.may_be_volume(header) and not kinds.is_mosaic(header)
    if not one_slice_each or planes.check_planes(group.slices):
        return [group]
    group = _drop_copies(group, digest, same_object=True)
    if len(group.slices) == 1:
        return [group]
    if len(set(planes.place_numbers(group.slices))) == 1:
        return [group.noting(Finding(Code.SAME_POSITION, f"{len(group.slices)} images"))]
    parts = phases.at_same_places(group.slices)
    if parts is None:
        group = _drop_copies(group, digest, same_object=False)
        counts = Counter(planes.place_numbers(group.slices)).values()
        if max(counts) > 1:
            code = Code.MULTI_PHASE if min(counts) > 1 else Code.DUPLICATE_POSITION
            repeated = sum(count > 1 for count in counts)
            return [group.noting(Finding(code, f"{repeated} of {len(counts)} positions"))]
        parts = [phases.Part(group.slices)]
    parts = [part for whole in parts for part in phases.along_the_stack(whole)]
    if len(parts) == 1:
        return [group.noting(*phases.mixed(group.slices))]
    return [_one_of(group, part, len(parts)) for part in parts]


def _one_of(group: Group, part: phases.Part, count: int) -> Group:
    said = ", ".join(part.said)
    note = Finding(Code.SPLIT_BY_PHASE, f"{said}; one of {count} volumes")
    return Group(part.slices, (*group.findings, note, *phases.mixed(part.slices)), said)


def _drop_copies(group: Group, digest: PixelDigest, *, same_object: bool) -> Group:
    """Keeps one of several slices at one place with the same pixels.

    With ``same_object`` only copies of one SOP instance count: what was sent twice.
    """
    places = planes.place_numbers(group.slices)
    alike: dict[Hashable, list[Slice]] = defaultdict(list)
    for one, place in zip(group.slices, places, strict=True):
        uid = one.header.sop_uid if same_object else ""
        alike[place, uid, one.frame.index if same_object else 0].append(one)
    kept: list[Slice] = []
    for candidates in alike.values():
        if len(candidates) == 1:
            kept.extend(candidates)
        else:
            kept.extend({digest(one): one for one in reversed(candidates)}.values())
    dropped = len(group.slices) - len(kept)
    if not dropped:
        return group
    kept_ids = {id(one) for one in kept}
    remaining = tuple(one for one in group.slices if id(one) in kept_ids)
    return replace(group, slices=remaining).noting(Finding(Code.DUPLICATE_DROPPED, f"{dropped}"))
