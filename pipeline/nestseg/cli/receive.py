"""``nestseg receive``: studies come in over the network, results go out. Never imports torch.

Each study is segmented by a process of its own: what a damaged file or a lack of memory does to it
never reaches the listener.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from nestseg.bundle import locate
from nestseg.cli import choice, network, tables
from nestseg.cli.segment_options import SegmentWords
from nestseg.pacs.incoming import Incoming
from nestseg.pacs.receive import Listener, listening
from nestseg.pacs.tls import Tls
from nestseg_prep.dicom.scan import scan
from nestseg_prep.disk import check_writable
from nestseg_prep.selection import Selection

_SPOOL = ".received"
_LOOK_EVERY_SECONDS = 0.5
_DONE = 0
_BROKEN = f"its transfer was broken off; it waits in {_SPOOL}/incoming to be sent again"


@dataclass(frozen=True)
class Work:
    """What is done with a study.

    Attributes:
        bundles: names or folders.
        out: ``out/STUDY/BUNDLE`` is where results go.
        options: of ``nestseg segment``.
        seconds: a study that takes longer is put aside.
        tls: for what is sent.
    """

    bundles: Sequence[str]
    out: Path
    options: SegmentWords
    seconds: float
    tls: Tls


def run(listener: Listener, work: Work, *, quota: int, quiet_seconds: float) -> None:
    """Listen until SIGINT or SIGTERM; a study that was begun is done again after the next start.

    Raises:
        InputError: nothing could be started: an address, a bundle, a rule, a certificate or a
            folder is wrong.
    """
    for bundle in work.bundles:
        _rules(bundle, work)
    network.check_address(work.options.send_to, work.tls)
    check_writable(work.out, mode=0o700)
    incoming = Incoming(work.out / _SPOOL, quota)
    if listener.is_plain:
        _say(f"patient data travel unencrypted to {listener.host}; give --certificate and --key")
    with _stopped() as stop, listening(listener, incoming) as port:
        _say(f"listening on {listener.host}:{port} as {listener.aet}")
        while not stop.wait(_LOOK_EVERY_SECONDS):
            for folder in incoming.incomplete(quiet_seconds):
                _say(f"study {_described(folder.name, folder, incoming)}, incomplete: {_BROKEN}")
            for study in incoming.complete(quiet_seconds):
                if not stop.is_set():
                    _work_on(study, incoming, work, stop)
    _say("stopped")


def _work_on(study: Path, incoming: Incoming, work: Work, stop: threading.Event) -> None:
    name = study.name.rpartition("-")[0]
    _say(f"study {_described(name, study, incoming)}, complete")
    fine = True
    for bundle in work.bundles:
        label = locate.find(bundle).name
        found = scan(study, rules=work.options.rules).series
        taken = sum(one.taken for one in _rules(bundle, work).decide(found))
        if not taken:
            _say(f"study {name}: no series fits {label}")
            continue
        code = _segment(study, bundle, work.out / name / label, work, stop)
        if code is None:
            return  # stopped: it stays where the next listener looks first
        fine = fine and code == _DONE
        _say(f"study {name}: {taken} series, {label}: {_outcome(code)}")
    if fine:
        incoming.done(study)
    else:
        _say(f"study {name}: kept as {incoming.failed(study).name} in {_SPOOL}/failed")


def _described(name: str, folder: Path, incoming: Incoming) -> str:
    dropped = incoming.dropped(name)
    more = f" and {dropped} of unknown classes (dropped)" if dropped else ""
    return f"{name}: {sum(1 for _ in folder.iterdir())} objects{more}"


def _rules(bundle: str, work: Work) -> Selection:
    options = work.options
    return choice.selection(bundle, options.select, one_per_study=options.one_per_study)


def _segment(study: Path, bundle: str, out: Path, work: Work, stop: threading.Event) -> int | None:
    """Exit code of ``nestseg segment`` in a process group of its own; ``None`` if stopped."""
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    # -P: what lies in the folder that the listener was started in is not imported.
    command: list[object] = [sys.executable, "-P", "-m", "nestseg.cli", "segment", study]
    command += ["-b", bundle, "-o", out, *work.options.words, *work.tls.words()]
    with (out / "log.txt").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603  our own command, paths as arguments
            [str(part) for part in command], stdout=log, stderr=log, start_new_session=True
        )
        waited = 0.0
        while True:
            try:
                return process.wait(_LOOK_EVERY_SECONDS)
            except subprocess.TimeoutExpired:
                waited += _LOOK_EVERY_SECONDS
                if stop.is_set() or waited > work.seconds:
                    os.killpg(process.pid, signal.SIGKILL)
                    code = process.wait()
                    return None if stop.is_set() else code


def _outcome(code: int) -> str:
    if code == _DONE:
        return "done"
    return f"ended with code {code}; see log.txt in its folder"


@contextmanager
def _stopped() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set."""
    stop = threading.Event()
    before = {
        name: signal.signal(name, lambda *_: stop.set()) for name in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for name, old in before.items():
            signal.signal(name, old)


def _say(text: str) -> None:
    """A line for a log: nothing in it leads to a patient without the site key."""
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    tables.stderr.print(f"{moment} {text}", soft_wrap=True, markup=False, highlight=False)
