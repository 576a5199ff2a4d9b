"""``nestseg report`` and ``nestseg serve``: what came of a run. Neither imports torch."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

from nestseg import report
from nestseg.cli import tables
from nestseg.report.live import serving


def run(out: Path) -> None:
    """Write ``report.html``, ``report.json`` and ``report.csv`` from the journals in ``out``.

    Raises:
        InputError: there is no journal, or it cannot be read.
    """
    page = report.write(out)
    size = page.stat().st_size / 1e6
    _say(f"{page} ({size:.1f} MB), and report.json and report.csv beside it")


def run_live(out: Path, port: int) -> None:
    """Show the run in ``out`` on this machine until SIGINT or SIGTERM.

    Raises:
        InputError: there is no journal, or the port is taken.
    """
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    with serving(out, port) as address:
        _say(f"{address}\nfor this machine alone; Ctrl+C ends it")
        stop.wait()


def _say(text: str) -> None:
    tables.console.print(text, soft_wrap=True, markup=False, highlight=False)
