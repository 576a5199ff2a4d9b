"""The newest report of a folder, read at most once a second however many ask for it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from nestseg.batch.read import read_view
from nestseg.report.table import table

_FRESH_SECONDS = 1.0


class Latest:
    """A report that is read again when it is no longer fresh; for several threads.

    Args:
        out: the folder of a run.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self._lock = threading.Lock()
        self._read_at = -_FRESH_SECONDS
        self._report: dict[str, Any] = {}
        self._rows: dict[str, dict[str, Any]] = {}

    def report(self) -> dict[str, Any]:
        """As :func:`nestseg.report.table.table` makes it.

        Raises:
            InputError: the journal cannot be read.
        """
        with self._lock:
            if not self._report or time.monotonic() - self._read_at > _FRESH_SECONDS:
                self._report = table(read_view(self.out))
                self._rows = {row["key"]: row for row in self._report["rows"]}
                self._read_at = time.monotonic()
            return self._report

    def row(self, key: str) -> dict[str, Any] | None:
        """The row of a case; ``None`` if there is none of that key."""
        self.report()
        return self._rows.get(key)
