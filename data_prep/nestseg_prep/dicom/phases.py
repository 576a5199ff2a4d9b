"""Slices of one kind → volumes, where tags tell several apart. Pure functions over header records.

Two cases. Where places repeat, a series holds several volumes of one place: echoes, time points,
phases. Where they do not, slices of two acquisitions may still lie between each other or one behind
the other, and stacking them would make a volume of neither.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from nestseg_prep.dicom import acquisition, gaps, planes
from nestseg_prep.dicom.acquisition import Tag
from nestseg_prep.dicom.findings import Code, Finding
from nestseg_prep.dicom.headers import Slice

# Fewer slices do not show that they are evenly spaced.
_FEWEST: Final = 3
# A setting that goes from its lowest to its highest value in steps no larger than this share of the
# way is modulated along the patient: it does not part a volume.
_SMOOTH_STEP: Final = 0.25
# As many values one behind the other may be volumes; more are a setting changed in stages.
_MOST_BLOCKS: Final = 3
# Between volumes of a time series lies more time than between their slices.
_CLEAR_GAP: Final = 2.0

Labels: TypeAlias = list[int]


class Part(NamedTuple):
    """Slices that a tag tells apart from the others.

    Attributes:
        slices: of the part.
        said: what the part is, a phrase for each tag that was needed.
    """

    slices: tuple[Slice, ...]
    said: tuple[str, ...] = ()


class _Cut(NamedTuple):
    """A way to part slices: a number for each of them, and the tag that it follows from."""

    tag: Tag | None
    labels: Labels


def at_same_places(slices: Sequence[Slice]) -> list[Part] | None:
    """Parts slices until no place repeats, or ``None`` where no tag does it cleanly.

    A cut is clean when every part covers the same places equally often or else, by itself, places
    at equal distances.

    Args:
        slices: passed ``check_planes``; one orientation.
    """
    if not _repeats(slices):
        return [Part(tuple(slices))]
    cuts = list(_cuts(slices))
    for clean in (_cover_the_same, _cover_regular_places):
        for cut in cuts:
            if clean(slices, cut.labels) and (parts := _deeper(slices, cut)):
                return parts
    return None


def _deeper(slices: Sequence[Slice], cut: _Cut) -> list[Part] | None:
    found = []
    for part in _parted(slices, cut):
        inner = at_same_places(part.slices)
        if inner is None:
            return None
        found += [Part(one.slices, (*part.said, *one.said)) for one in inner]
    return found


def _cuts(slices: Sequence[Slice]) -> Iterator[_Cut]:
    """Every way to part the slices by one tag, the best first."""
    drifting = []
    for tag in acquisition.TAGS:
        texts = _texts(slices, tag)
        exact = {text: n for n, text in enumerate(sorted(set(texts), key=acquisition.ranked(tag)))}
        yield from _varying(tag, [exact[text] for text in texts])
        near = acquisition.alike(tag, texts)
        if len(set(near.values())) < len(exact):
            yield from _varying(tag, [near[text] for text in texts])
        values = [acquisition.number(tag, text) for text in texts]
        if tag.drifts and len(exact) > 1 and None not in values:
            drifting.append((tag, np.array(values, dtype=np.float64)))
    if any(header.enhanced for header, _ in slices):
        objects = sorted({(header.acquired, header.sop_uid) for header, _ in slices})
        numbers = {uid: number for number, (_, uid) in enumerate(objects)}
        yield from _varying(None, [numbers[header.sop_uid] for header, _ in slices])
    for tag, known in drifting:
        for rule in (_by_rank, _by_gaps):
            if labels := rule(slices, known):
                yield from _varying(tag, labels)


def _varying(tag: Tag | None, labels: Labels) -> Iterator[_Cut]:
    if len(set(labels)) > 1:
        yield _Cut(tag, labels)


def _by_rank(slices: Sequence[Slice], values: planes.Array) -> Labels | None:
    """Numbers the slices of each place by their value, where the bands of values do not overlap."""
    places = planes.place_numbers(slices)
    if len(set(Counter(places).values())) != 1:
        return None
    order = np.lexsort((values, np.array(places)))
    count = len(slices) // len(set(places))
    labels = np.empty(len(slices), dtype=int)
    labels[order] = np.arange(len(slices)) % count
    bands = [values[labels == number] for number in range(count)]
    apart = all(first.max() < second.min() for first, second in pairwise(bands))
    return [int(label) for label in labels] if apart else None


def _by_gaps(slices: Sequence[Slice], values: planes.Array) -> Labels | None:
    """Cuts at the widest gaps between values, the fewest that leave no place twice in a part."""
    known = np.unique(values)
    widths = np.diff(known)
    order = np.argsort(-widths, kind="stable")
    for count in range(1, len(known)):
        chosen, others = order[:count], order[count:]
        if len(others) and widths[chosen].min() < _CLEAR_GAP * widths[others].max():
            continue
        labels = np.searchsorted(known[np.sort(chosen)], values)
        parts = _partition(slices, [int(label) for label in labels])
        if not any(map(_repeats, parts)):
            return [int(label) for label in labels]
    return None


def along_the_stack(part: Part) -> list[Part]:
    """Parts slices at different places where a setting of the scanner tells acquisitions apart.

    A setting that alternates along the normal, or changes once from one value to another, parts the
    slices where each part is evenly spaced by itself. One that alternates also does where only all
    of them together would be uneven: whatever is missing is missing in one of the parts.
    """
    if len(part.slices) < 2 * _FEWEST:
        return [part]
    order = np.argsort(planes.place_numbers(part.slices))
    slices = [part.slices[index] for index in order]
    for tag in acquisition.TAGS:
        labels = _setting(slices, tag)
        if labels and _are_acquisitions(slices, tag, labels):
            parts = _parted(slices, _Cut(tag, labels))
            inner = [Part(one.slices, (*part.said, *one.said)) for one in parts]
            return [deeper for one in inner for deeper in along_the_stack(one)]
    return [part]


def mixed(slices: Sequence[Slice]) -> list[Finding]:
    """What varies among the slices of a volume, and should not."""
    order = np.argsort(planes.place_numbers(slices))
    ordered = [slices[index] for index in order]
    names = [
        tag.name
        for tag in acquisition.TAGS
        if not tag.drifts
        and (labels := _setting(ordered, tag))
        and len(set(labels)) <= max(2, len(ordered) // 6)
    ]
    found = [Finding(Code.MIXED_SETTINGS, ", ".join(names))] if names else []
    tag = acquisition.BY_NAME["acquisition"]
    near = acquisition.alike(tag, texts := _texts(ordered, tag))
    if _runs(numbers := [near[text] for text in texts]) > len(set(numbers)):
        found.append(Finding(Code.ALTERNATING_ACQUISITIONS, f"{len(set(numbers))} acquisitions"))
    return found


def _setting(ordered: Sequence[Slice], tag: Tag) -> Labels | None:
    """A number for each value of a setting that does not change smoothly along the stack."""
    if not tag.setting:
        return None
    texts = _texts(ordered, tag)
    if len(set(texts)) == 1:
        return None
    near = acquisition.alike(tag, texts)
    labels = [near[text] for text in texts]
    values = [value for one in texts if (value := acquisition.number(tag, one)) is not None]
    if len(values) == len(texts):
        steps = np.abs(np.diff(values))
        if steps.max() <= _SMOOTH_STEP * np.ptp(values):
            return None
    return labels if len(set(labels)) > 1 else None


def _are_acquisitions(ordered: Sequence[Slice], tag: Tag, labels: Labels) -> bool:
    counts = Counter(labels)
    large = [label for label in labels if counts[label] >= _FEWEST]
    if len(set(large)) < 2:
        return False
    alternates = _runs(large) > len(set(large))
    # Where a tag is missing nobody knows its value; but no agent means no contrast.
    known = tag.name == "contrast agent" or "" not in _texts(ordered, tag)
    blocks = known and tag.blocks and len(large) == len(labels)
    if not alternates and not (blocks and len(set(labels)) <= _MOST_BLOCKS):
        return False
    parts = [part for part in _partition(ordered, labels) if len(part) >= _FEWEST]
    if all(map(_is_regular, parts)):
        return True
    return alternates and not tag.drifts and not _is_regular(ordered)


def _runs(labels: Sequence[int]) -> int:
    return 1 + sum(first != second for first, second in pairwise(labels))


def _texts(slices: Sequence[Slice], tag: Tag) -> list[str]:
    return [frame.phase.get(tag.name, "") for _, frame in slices]


def _parted(slices: Sequence[Slice], cut: _Cut) -> list[Part]:
    parts = _partition(slices, cut.labels)
    if cut.tag is None:
        return [Part(one, (f"object {n} of {len(parts)}",)) for n, one in enumerate(parts, 1)]
    texts = [sorted(set(_texts(one, cut.tag)), key=acquisition.ranked(cut.tag)) for one in parts]
    said = acquisition.phrases(cut.tag, texts)
    return [Part(one, (text,)) for one, text in zip(parts, said, strict=True)]


def _partition(slices: Sequence[Slice], labels: Labels) -> list[tuple[Slice, ...]]:
    parts: dict[int, list[Slice]] = defaultdict(list)
    for one, label in zip(slices, labels, strict=True):
        parts[label].append(one)
    return [tuple(parts[label]) for label in sorted(parts)]


def _repeats(slices: Sequence[Slice]) -> bool:
    return len(set(planes.place_numbers(slices))) < len(slices)


def _covered(slices: Sequence[Slice], labels: Labels) -> list[Counter[int]]:
    covered: dict[int, Counter[int]] = defaultdict(Counter)
    for place, label in zip(planes.place_numbers(slices), labels, strict=True):
        covered[label][place] += 1
    return list(covered.values())


def _cover_the_same(slices: Sequence[Slice], labels: Labels) -> bool:
    first, *others = _covered(slices, labels)
    return all(other == first for other in others)


def _cover_regular_places(slices: Sequence[Slice], labels: Labels) -> bool:
    """Whether each part by itself lies at equal distances, each place as often as any other."""
    return all(len(set(one.values())) == 1 for one in _covered(slices, labels)) and all(
        map(_is_regular, _partition(slices, labels))
    )


def _is_regular(slices: Sequence[Slice]) -> bool:
    """Whether the places of slices, each taken once, are at least three at equal distances."""
    numbers = planes.place_numbers(slices)
    first = {number: index for index, number in reversed(list(enumerate(numbers)))}
    along = planes.positions(slices) @ planes.directions(slices).normal
    places = np.array([along[first[number]] for number in sorted(first)])
    if len(places) < _FEWEST:
        return False
    steps, findings = gaps.judge(places - places[0], None)
    return steps is not None and not findings
