"""An output folder as those see it who only read: a header, and a row for every case."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from nestseg.batch.states import Cause, Facts, Flag, Output, State
from nestseg_prep.dicom.findings import Severity


@dataclass(frozen=True)
class CaseRow:
    """One case, or a series that is none.

    Attributes:
        name: what its outputs are called.
        key: of its series, unique in the folder.
        kind: ``"dicom"``, ``"nifti"`` or ``"picture"``.
        modality: ``"CT"``, ``"MR"`` …; ``None`` for NIfTI and pictures.
        shape: voxels along ``(i, j, k)``.
        spacing: mm along ``(i, j, k)``.
        findings: of the ingest, as ``Finding.to_json`` writes them.
        state: where it stands.
        cause: why the last attempt came to nothing; ``None`` if there was none or it was done.
        reason: the same, or why it is not segmented, in one line free of patient data.
        attempts: how often it was begun.
        outputs: its files; empty unless it is done.
        facts: what else is known of it; empty unless it is done.
        input_digest: of its files' names, sizes and times.
        started: when the last attempt began, ISO 8601 in UTC.
        finished: when it ended, likewise.
        worker: where it ran, ``"HOST:PID"``.
        seen: whether the last run found it among its inputs.
        part: what it is among the volumes of its series ("echo 2"), ``""`` for a whole series.
        settings_digest: of the bundle and the options.
    """

    name: str
    key: str
    kind: str
    modality: str | None
    shape: tuple[int, int, int] | None
    spacing: tuple[float, float, float] | None
    findings: tuple[dict[str, Any], ...]
    state: State
    cause: Cause | None
    reason: str
    attempts: int
    outputs: tuple[Output, ...]
    facts: Facts
    input_digest: str
    started: str | None
    finished: str | None
    worker: str = ""
    seen: bool = True
    settings_digest: str = ""
    part: str = ""

    @property
    def to_look_at(self) -> tuple[Flag, ...]:
        """What a person should look at: flags of the mask, then warnings about the input.

        Empty unless it is done.
        """
        if self.state is not State.DONE:
            return ()
        warnings = (one for one in self.findings if one.get("severity") == Severity.WARNING)
        return (*self.facts.flags, *(_as_flag(one) for one in warnings))

    def output(self, role: str) -> Output | None:
        """Its file of a role: ``"mask"``, ``"preview"`` …; ``None`` if there is none."""
        return next((output for output in self.outputs if output.role == role), None)

    def to_json(self) -> dict[str, Any]:
        """The row as plain data."""
        return asdict(self)


def _as_flag(warning: dict[str, Any]) -> Flag:
    detail = f" ({warning['detail']})" if warning.get("detail") else ""
    return Flag(str(warning["code"]), f"{str(warning['sentence']).rstrip('.')}{detail}")


@dataclass(frozen=True)
class RunHeader:
    """What holds for a whole run.

    Attributes:
        nestseg: version.
        bundle: ``name``, ``version``, ``weights_sha256``.
        labels: value in the mask → name, without the background.
        options: what changes the results, as the command line said it.
        device: where it computes.
        python: version.
        libraries: name → version.
        started: when the last runner began, ISO 8601 in UTC.
        finished: when it ended; ``None`` while it runs, or if it was killed.
        scanned: whether every input has been looked at: totals may still grow before.
        other_files: files that are no series, by code.
        shards: how many journals this is from, and how many there shall be.
    """

    nestseg: str = ""
    bundle: dict[str, str] = field(default_factory=dict)
    labels: dict[int, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    device: str = ""
    python: str = ""
    libraries: dict[str, str] = field(default_factory=dict)
    started: str | None = None
    finished: str | None = None
    scanned: bool = False
    other_files: dict[str, int] = field(default_factory=dict)
    shards: tuple[int, int] = (1, 1)

    def to_json(self) -> dict[str, Any]:
        """The header as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class RunView:
    """An output folder at one moment.

    Attributes:
        header: of the run; of several shards, what the first says, with times of all.
        rows: every case in the order of discovery, then what is not segmented likewise.
    """

    header: RunHeader
    rows: tuple[CaseRow, ...]

    @property
    def unit(self) -> str:
        """The unit in which most cases were measured: ``"ml"``, ``"mm²"`` or ``"pixels"``."""
        sizes = (row.facts.sizes.measured for row in self.rows if row.state is State.DONE)
        units = Counter(unit for unit, values in sizes if values)
        return units.most_common(1)[0][0] if units else "ml"

    @property
    def counts(self) -> dict[State, int]:
        """How many rows there are of each state."""
        return dict(Counter(row.state for row in self.rows))

    def to_json(self) -> dict[str, Any]:
        """Header and rows as plain data."""
        return {
            "header": self.header.to_json(),
            "rows": [row.to_json() for row in self.rows],
        }


def side_by_side(views: Mapping[str, RunView]) -> RunView:
    """The runs of several bundles as one.

    Cases and their files are called after their bundle too. A series that no bundle took has one
    row, with the reason of each.

    Args:
        views: bundle → its run, whose files lie in a folder of that name; at least one.
    """
    headers = [view.header for view in views.values()]
    names = dict.fromkeys(name for header in headers for name in header.labels.values())
    starts = [header.started for header in headers if header.started]
    ends = [header.finished for header in headers]
    header = replace(
        headers[0],
        bundle={"name": ", ".join(views)},
        labels=dict(enumerate(names, start=1)),
        started=min(starts, default=None),
        finished=max(end for end in ends if end) if all(ends) else None,
        scanned=all(header.scanned for header in headers),
    )
    return RunView(header, (*_cases(views), *_left_out(views)))


_LEFT_OUT = (State.REFUSED, State.UNFIT)


def _cases(views: Mapping[str, RunView]) -> Iterator[CaseRow]:
    for bundle, view in views.items():
        for row in view.rows:
            if row.state not in _LEFT_OUT:
                files = tuple(replace(one, path=f"{bundle}/{one.path}") for one in row.outputs)
                name, key = f"{bundle}/{row.name}", f"{bundle}/{row.key}"
                yield replace(row, name=name, key=key, outputs=files)


def _left_out(views: Mapping[str, RunView]) -> Iterator[CaseRow]:
    """Series that no bundle took."""
    seen: dict[str, list[tuple[str, CaseRow]]] = defaultdict(list)
    for bundle, view in views.items():
        for row in view.rows:
            seen[row.key].append((bundle, row))
    for rows in seen.values():
        if all(row.state in _LEFT_OUT for _, row in rows):
            reasons = dict.fromkeys(
                row.reason if row.state is State.REFUSED else f"{bundle}: {row.reason}"
                for bundle, row in rows
            )
            yield replace(rows[0][1], reason="; ".join(reasons))
