"""Folders → series, handed out while the walk goes on; nothing is taken back without a word.

What tells that a series is whole? Only the end of the walk: its files may lie anywhere. But almost
always they lie below one folder, so the series below a top folder are handed out when its last
file was read. If a later folder turns out to hold more of one of them, everything below both is
judged anew at the end of the walk, and the judgement replaces the first.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from nestseg_prep.dicom import grouping, headers, judge, neighbours, walk
from nestseg_prep.dicom.classify import ReadHeader, classify, pixel_digest
from nestseg_prep.dicom.findings import Code
from nestseg_prep.dicom.headers import Header
from nestseg_prep.dicom.references import OtherFile, SeriesRef
from nestseg_prep.dicom.rules import SAFE, Rules


class Found(NamedTuple):
    """Something that a walk has come upon.

    Attributes:
        series: whole as far as is known.
        others: files that belong to none.
        replaces: keys of series handed out before that are to be forgotten, unless they are
            among ``series`` again.
    """

    series: tuple[SeriesRef, ...] = ()
    others: tuple[OtherFile, ...] = ()
    replaces: frozenset[str] = frozenset()


@dataclass
class _Unit:
    """Everything below one top folder: while it is walked its headers, later only their files."""

    label: str
    headers: list[Header] = field(default_factory=list)
    others: list[OtherFile] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    uids: frozenset[str] = frozenset()
    judged: list[tuple[str, str]] = field(default_factory=list)  # key, and as it was handed out


def stream(
    roots: Sequence[Path],
    *,
    rules: Rules = SAFE,
    unpack_to: Path | None = None,
    on_file: Callable[[int], None] | None = None,
    pictures: bool = False,
    whole: bool = False,
    read_header: ReadHeader = headers.read_header,
) -> Iterator[Found]:
    """Hands out every series below folders as early as possible.

    Args:
        roots: folders or files.
        rules: what is refused.
        unpack_to: see :func:`nestseg_prep.dicom.scan.scan`.
        on_file: likewise.
        pictures: likewise.
        whole: hand out DICOM series only at the end of the walk, and never anything twice.
        read_header: how a DICOM header is read.

    Raises:
        InputError: a root does not exist.
    """
    used: Counter[str] = Counter()
    top = _Unit("")  # what lies in no folder below a root: known to be whole at the end only
    closed: list[_Unit] = []
    current = top
    depth = None if whole else _depth_of_fork(roots)
    for count, entry in enumerate(walk.files_below(roots, unpack_to), start=1):
        label = "" if depth is None else _label(entry, roots, depth)
        if label and label != current.label:
            if current is not top:
                yield _close(current, rules, used)
            current = _Unit(label)
            closed.append(current)
        unit = current if label else top
        item = (
            entry
            if isinstance(entry, OtherFile)
            else classify(entry, pictures=pictures, read_header=read_header)
        )
        if isinstance(item, SeriesRef):
            item = _result_aside(item)
        if isinstance(item, Header):
            unit.headers.append(item)
        elif isinstance(item, SeriesRef):
            yield Found(series=(_with_unique_key(item, used),))
        else:
            unit.others.append(item)
            yield Found(others=(item,))
        if on_file is not None:
            on_file(count)
    if current is not top:
        yield _close(current, rules, used)
    yield _close(top, rules, used)
    yield from _spread([*closed, top], rules, used, read_header)


def _result_aside(ref: SeriesRef) -> SeriesRef | OtherFile:
    """A mask among images is not one of them."""
    said = next((finding for finding in ref.findings if finding.code is Code.RESULT), None)
    return OtherFile(ref.files[0], said) if said else ref


def _close(unit: _Unit, rules: Rules, used: Counter[str]) -> Found:
    """Judges what was read of a unit, and lets go of the headers."""
    series: list[SeriesRef] = []
    whole, apart = grouping.one_slice_each(grouping.by_series(unit.headers))
    for group in whole:
        series += judge.judge_series(group, pixel_digest, rules)
    for group in apart:
        series += judge.judge_apart(group, pixel_digest, rules)
    warned = neighbours.warned(series, unit.others)
    unique = tuple(_with_unique_key(ref, used) for ref in warned)
    unit.judged = [(one.key, ref.key) for one, ref in zip(warned, unique, strict=True)]
    unit.paths = [header.path for header in unit.headers]
    # Slices of one series with a UID each may lie below several folders, as files of one UID may.
    alone = Counter(header.series_uid for header in unit.headers)
    twins = {grouping.twin_name(header) for header in unit.headers if alone[header.series_uid] == 1}
    unit.uids = frozenset({header.series_uid for header in unit.headers} | twins) - {""}
    unit.headers = []
    return Found(series=unique)


def _spread(
    units: list[_Unit], rules: Rules, used: Counter[str], read_header: ReadHeader
) -> Iterator[Found]:
    """Judges again what lies below folders that share a series."""
    for group in _sharing(units):
        joined = _Unit("")
        for unit in group:
            used.subtract(key for key, _ in unit.judged)
            joined.others += unit.others
            for path in unit.paths:
                entry = walk.Entry(path, path.name)
                item = classify(entry, pictures=False, read_header=read_header)
                if isinstance(item, Header):
                    joined.headers.append(item)
                elif isinstance(item, OtherFile):  # no longer readable: a slice may be missing
                    joined.others.append(item)
                    yield Found(others=(item,))
        before = frozenset(key for unit in group for _, key in unit.judged)
        yield _close(joined, rules, used)._replace(replaces=before)


def _sharing(units: list[_Unit]) -> list[list[_Unit]]:
    """Units that share a series, directly or by way of others; none that stands alone."""
    leaders = list(range(len(units)))

    def leader(number: int) -> int:
        while leaders[number] != number:
            leaders[number] = number = leaders[leaders[number]]
        return number

    first: dict[str, int] = {}
    for number, unit in enumerate(units):
        for uid in unit.uids:
            leaders[leader(number)] = leader(first.setdefault(uid, number))
    groups: dict[int, list[_Unit]] = defaultdict(list)
    for number, unit in enumerate(units):
        groups[leader(number)].append(unit)
    return [members for members in groups.values() if len(members) > 1]


def _with_unique_key(ref: SeriesRef, used: Counter[str]) -> SeriesRef:
    """Numbers the keys that two roots gave to files of the same relative name."""
    used[ref.key] += 1
    number = used[ref.key]
    return ref if number == 1 else ref.renamed(f"{ref.key}-{number}")


def _label(entry: walk.Entry | OtherFile, roots: Sequence[Path], depth: int) -> str:
    """The top folder that a file lies in; ``""`` for none."""
    if isinstance(entry, OtherFile):
        root = next((root for root in roots if entry.path.is_relative_to(root)), entry.path)
        parts: Sequence[str] = entry.path.relative_to(root).parts
    else:
        parts = entry.name.split("/")
    return "/".join(parts[: depth + 1]) if len(parts) > depth + 1 else ""


def _depth_of_fork(roots: Sequence[Path]) -> int:
    """How many folders that hold nothing but one folder lie above the first that holds more."""
    depth = 0
    folder = roots[0]
    with suppress(OSError):  # the walk says what cannot be read
        while len(roots) == 1 and folder.is_dir():
            children = list(folder.iterdir())
            if len(children) != 1 or not children[0].is_dir():
                break
            (folder,) = children
            depth += 1
    return depth
