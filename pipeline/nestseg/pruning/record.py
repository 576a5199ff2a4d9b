"""``docs/pruning.json``: what every level scored and cost, and which one was chosen.

The table outlives the choice: another rule can be applied to it later, without a new measurement.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nestseg.pruning.choice import Choice, Level, Rule
from nestseg_prep.errors import InputError

FILE_NAME = "docs/pruning.json"
SCHEMA = 1


@dataclass(frozen=True)
class Source:
    """The bundle that was pruned.

    Attributes:
        name: of its folder.
        version: from its metadata.
        weights_sha256: of its ``models/model.pt``.
    """

    name: str
    version: str
    weights_sha256: str


@dataclass(frozen=True)
class Failure:
    """A validation case that could not be scored.

    Attributes:
        case: name of its image file, or its place in the list, from 0, where the image is DICOM.
        error: why, in one line.
    """

    case: str
    error: str


@dataclass(frozen=True)
class Scoring:
    """What the levels were scored on.

    Attributes:
        datalist_sha256: of the paths of the validation cases, relative to the data set.
        cases: number of validation cases listed.
        failed: those that could not be scored, at any level; no level counts them.
        surface_tolerance_mm: of the surface Dice.
    """

    datalist_sha256: str
    cases: int
    failed: tuple[Failure, ...]
    surface_tolerance_mm: float

    @property
    def scored(self) -> int:
        """Number of cases that count."""
        return self.cases - len(self.failed)


@dataclass(frozen=True)
class Timing:
    """How time and memory were measured.

    Attributes:
        cases: number of validation cases that were timed, from small to the largest.
        rounds: fresh processes per level; the levels took turns.
        memory: whose memory it is.
        machine: facts about the machine and the libraries.
    """

    cases: int
    rounds: int
    memory: str
    machine: dict[str, str | int]


@dataclass(frozen=True)
class Record:
    """A pruning, as the file holds it.

    Attributes:
        source: the bundle that was pruned.
        weights_sha256: of the pruned bundle's ``models/model.pt``.
        scoring: what the levels were scored on.
        timing: how their costs were measured.
        levels: each level, rising.
        rule: what the choice kept to.
        chosen: what was chosen, and why.
        nestseg: version that pruned.
        finished: when, UTC.
    """

    source: Source
    weights_sha256: str
    scoring: Scoring
    timing: Timing
    levels: tuple[Level, ...]
    rule: Rule
    chosen: Choice
    nestseg: str
    finished: str


def to_json(record: Record) -> str:
    """The text of the file."""
    content = {"schema": SCHEMA, **asdict(record)}
    content["scoring"]["scored"] = record.scoring.scored  # for readers other than this one
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def read(bundle: Path) -> Record:
    """The record of a bundle, for another choice among its levels.

    Raises:
        InputError: the bundle has none, or one that this version cannot read.
    """
    path = bundle / FILE_NAME
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        if content.pop("schema") != SCHEMA:
            raise ValueError("another schema")
        scoring = content.pop("scoring")
        del scoring["scored"]
        failed = tuple(Failure(**failure) for failure in scoring.pop("failed"))
        return Record(
            source=Source(**content.pop("source")),
            scoring=Scoring(failed=failed, **scoring),
            timing=Timing(**content.pop("timing")),
            levels=tuple(Level(**level) for level in content.pop("levels")),
            rule=Rule(**content.pop("rule")),
            chosen=Choice(**content.pop("chosen")),
            **content,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{bundle.name}: no {FILE_NAME} that can be read; `nestseg prune` writes it"
        ) from error
