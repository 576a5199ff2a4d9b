"""Scores of images, kept with the digest of the weights that gave them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

_TABLE = """
CREATE TABLE IF NOT EXISTS score (
    image TEXT, method TEXT, weights TEXT, value REAL, PRIMARY KEY (image, method)
)"""


class Scores:
    """A table that the server and its background processes share.

    Args:
        path: of the SQLite file; made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def of(self, method: str, weights: str) -> dict[str, float]:
        """Image → score, by the weights of that digest alone."""
        with self._open() as table:
            rows = table.execute(
                "SELECT image, value FROM score WHERE method = ? AND weights = ?",
                (method, weights),
            ).fetchall()
        return dict(rows)

    def asked_for(self, method: str) -> bool:
        """Whether there is any score of a method, by whatever weights."""
        with self._open() as table:
            row = table.execute(
                "SELECT 1 FROM score WHERE method = ? LIMIT 1", (method,)
            ).fetchone()
        return row is not None

    def put(self, image: str, weights: str, values: dict[str, float]) -> None:
        """Keep scores of an image; those by other weights go.

        Args:
            image: its id.
            weights: digest.
            values: method → score.
        """
        with self._open() as table:
            table.executemany(
                "INSERT OR REPLACE INTO score VALUES (?, ?, ?, ?)",
                [(image, method, weights, value) for method, value in values.items()],
            )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=60)) as table, table:
            table.execute(_TABLE)
            yield table
