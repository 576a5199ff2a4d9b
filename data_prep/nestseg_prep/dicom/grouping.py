"""Headers → groups that may be one volume each. Pure functions over header records.

A SeriesInstanceUID is what a scanner's user calls a series; it may hold a scout in front, three
planes, two phases. Each split says so in a finding, and no two groups ever merge.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from nestseg_prep.dicom import kinds, planes
from nestseg_prep.dicom.findings import Code, Finding
from nestseg_prep.dicom.headers import PHASES, Header, Slice

ORIENTATION_TOLERANCE: Final = 1e-3
# Over 1000 pixels it adds up to a tenth of a millimetre.
_SPACING_TOLERANCE_MM: Final = 1e-4

PixelDigest: TypeAlias = Callable[[Slice], str]


@dataclass(frozen=True)
class Group:
    """Slices that may form one volume, with what was found while they were told apart."""

    slices: tuple[Slice, ...]
    findings: tuple[Finding, ...] = ()

    @property
    def refused(self) -> bool:
        return any(finding.refuses for finding in self.findings)

    def noting(self, *findings: Finding) -> Group:
        """The same group with more findings."""
        return Group(self.slices, (*self.findings, *findings))


def by_series(headers: Iterable[Header]) -> list[list[Header]]:
    """Groups headers by SeriesInstanceUID; files without one by their folder."""
    series: dict[tuple[str, str], list[Header]] = defaultdict(list)
    for header in headers:
        folder = "" if header.series_uid else str(header.path.parent)
        series[header.series_uid, folder].append(header)
    return [series[key] for key in sorted(series)]


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


def _study(one: Slice) -> Hashable:
    return one.header.study_uid


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
    (Code.SPLIT_BY_STUDY, _exactly(_study)),
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
    return [Group(part, group.findings).noting(note) for part in parts]


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
    if not _repeats(group.slices):
        return [group]
    if len(set(planes.place_numbers(group.slices))) == 1:
        return [group.noting(Finding(Code.SAME_POSITION, f"{len(group.slices)} images"))]
    phases = _phases(group.slices)
    if phases and len(phases) > 1:
        note = Finding(Code.SPLIT_BY_PHASE, f"{len(phases)} volumes")
        return [Group(part, group.findings).noting(note) for part in phases]
    group = _drop_copies(group, digest, same_object=False)
    counts = Counter(planes.place_numbers(group.slices)).values()
    if max(counts) == 1:
        return [group]
    code = Code.MULTI_PHASE if min(counts) > 1 else Code.DUPLICATE_POSITION
    repeated = sum(count > 1 for count in counts)
    return [group.noting(Finding(code, f"{repeated} of {len(counts)} positions"))]


def _repeats(slices: Sequence[Slice]) -> bool:
    return len(set(planes.place_numbers(slices))) < len(slices)


def _phases(slices: Sequence[Slice]) -> list[tuple[Slice, ...]] | None:
    """Splits until no place repeats, or ``None`` where no tag does it cleanly.

    A split is clean when every part covers the same places equally often.
    """
    if not _repeats(slices):
        return [tuple(slices)]
    for keys in _phase_keys(slices):
        parts = _partition(slices, keys)
        if len(parts) > 1 and _cover_the_same(slices, keys):
            deeper = [_phases(part) for part in parts]
            return [part for found in deeper for part in found or ()] if all(deeper) else None
    return None


def _phase_keys(slices: Sequence[Slice]) -> Iterable[list[Hashable]]:
    if any(header.enhanced for header, _ in slices):
        yield [header.sop_uid for header, _ in slices]
    for name in PHASES:
        yield [frame.phase.get(name, "") for _, frame in slices]


def _cover_the_same(slices: Sequence[Slice], keys: Sequence[Hashable]) -> bool:
    covered: dict[Hashable, Counter[int]] = defaultdict(Counter)
    for place, key in zip(planes.place_numbers(slices), keys, strict=True):
        covered[key][place] += 1
    first, *others = covered.values()
    return all(other == first for other in others)


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
    return Group(remaining, group.findings).noting(Finding(Code.DUPLICATE_DROPPED, f"{dropped}"))
