"""What the journal keeps of a case, as its writer needs it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from nestseg.batch.read import facts_from, outputs_from
from nestseg.batch.states import Facts, Output, State


class Entry(NamedTuple):
    """A series, new or changed, as it is written down.

    Attributes:
        key: of the series.
        name: what its outputs are called.
        series: what readers are told of it, free of patient data.
        state: where it stands.
        reason: why it is not segmented, if so.
        input_digest: of its files.
        settings_digest: of what changes its results.
    """

    key: str
    name: str
    series: dict[str, Any]
    state: State
    reason: str = ""
    input_digest: str = ""
    settings_digest: str = ""


@dataclass(frozen=True)
class Stored:
    """What is known of a case that is found again."""

    name: str
    state: State
    failures: int
    outputs: tuple[Output, ...]
    input_digest: str
    settings_digest: str


@dataclass(frozen=True)
class Restored:
    """A case out of a record of its results.

    Attributes:
        entry: ``DONE``, or ``FOUND`` if its outputs are to be replaced.
        outputs: what it made.
        facts: of the case.
        attempts: how often it was begun.
        started: when the last attempt began.
        finished: when it ended.
    """

    entry: Entry
    outputs: tuple[Output, ...]
    facts: Facts
    attempts: int
    started: str | None
    finished: str | None


@dataclass(frozen=True)
class Publication:
    """Outputs on their way from a staging folder to their names.

    Attributes:
        key: of the case.
        staging: its folder, relative to that of the token.
        outputs: what goes to its name.
        facts: of the case.
        worker: where it was computed.
    """

    key: str
    staging: str
    outputs: tuple[Output, ...]
    facts: Facts
    worker: str = ""

    def to_json(self) -> str:
        """As it stands in the journal."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Publication:
        """From what stands in the journal."""
        record = json.loads(text)
        return cls(
            record["key"],
            record["staging"],
            outputs_from(json.dumps(record["outputs"])),
            facts_from(json.dumps(record["facts"])),
            record["worker"],
        )
