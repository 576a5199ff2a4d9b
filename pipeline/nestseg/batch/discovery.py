"""The walk through the inputs, in a thread of its own: cases start while it goes on."""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from nestseg_prep.dicom.classify import ReadHeader
from nestseg_prep.dicom.references import OtherFile, SeriesRef
from nestseg_prep.dicom.rules import Rules
from nestseg_prep.dicom.stream import Found, stream
from nestseg_prep.selection import Decision, Selection

_AHEAD = 200  # findings that may wait to be taken: what is found is held in memory


@dataclass(frozen=True)
class Inputs:
    """What is looked through, and what is taken of it.

    Attributes:
        paths: folders or files.
        selection: which series.
        rules: what is refused.
    """

    paths: Sequence[Path]
    selection: Selection
    rules: Rules


class Taken(NamedTuple):
    """What a walk has handed out.

    Attributes:
        decisions: series, with what the selection says of each.
        replaced: keys of series handed out before, which are to be forgotten unless they are
            among ``decisions`` again.
        last: whether everything was seen, and this is the end.
    """

    decisions: Sequence[Decision] = ()
    replaced: frozenset[str] = frozenset()
    last: bool = False

    @property
    def nothing(self) -> bool:
        """Whether there is nothing in it."""
        return not self.decisions and not self.replaced


class Discovery:
    """A walk that runs ahead of whoever takes its findings, but not far.

    Args:
        inputs: where, and what is taken.
        unpack_to: a folder for the files of archives, which stays while their series are read.
        read_header: how a DICOM header is read.

    Attributes:
        files: how many files were seen so far.
        others: how many of them are no series, by code.
        unseen: folders that could not be read: series may be missing.
        finished: whether everything was seen, and taken.
    """

    def __init__(self, inputs: Inputs, unpack_to: Path, read_header: ReadHeader) -> None:
        self._inputs = inputs
        self._queue: queue.Queue[Found | BaseException | None] = queue.Queue(_AHEAD)
        self._stop = threading.Event()
        self.files = 0
        self.others: Counter[str] = Counter()
        self.unseen: list[OtherFile] = []
        self.finished = False
        self._thread = threading.Thread(
            target=self._walk, args=(unpack_to, read_header), name="nestseg-walk", daemon=True
        )
        self._thread.start()

    def take(self, timeout_s: float) -> Taken:
        """The next series.

        Args:
            timeout_s: how long to wait for any.

        Raises:
            Exception: whatever ended the walk.
        """
        try:
            found = self._queue.get(timeout=timeout_s) if timeout_s else self._queue.get_nowait()
        except queue.Empty:
            return Taken()
        if isinstance(found, BaseException):
            raise found
        if found is None:
            self.finished = True
            return Taken(last=True)
        return Taken(self._inputs.selection.decide(found.series), found.replaces)

    def close(self) -> None:
        """End the walk, wherever it is."""
        self._stop.set()
        self._thread.join()

    def _walk(self, unpack_to: Path, read_header: ReadHeader) -> None:
        ending: BaseException | None = None
        try:
            for found in stream(
                self._inputs.paths,
                rules=self._inputs.rules,
                unpack_to=unpack_to,
                pictures=self._inputs.selection.pictures,
                # Which series of a study is the best can be said only when all have been seen.
                whole=bool(self._inputs.selection.one_per_study),
                on_file=self._count,
                read_header=read_header,
            ):
                self.others.update(str(other.finding.code) for other in found.others)
                self.unseen += [other for other in found.others if other.kind != "file"]
                if found.series or found.replaces:
                    self._put(found)
        except _Stopped:
            return
        except BaseException as error:  # noqa: BLE001  raised again where findings are taken
            ending = error
        self._put(ending)

    def _count(self, files: int) -> None:
        self.files = files
        if self._stop.is_set():
            raise _Stopped

    def _put(self, item: Found | BaseException | None) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.2)
            except queue.Full:
                continue
            return


class _Stopped(Exception):  # noqa: N818  no error
    """The walk is no longer wanted."""


def series_facts(ref: SeriesRef) -> dict[str, object]:
    """What the journal keeps of a series: nothing that leads to a patient."""
    return {
        "kind": ref.kind,
        "modality": ref.modality,
        "part": ref.part,
        "shape": ref.shape,
        "spacing": ref.spacing,
        "findings": [finding.to_json() for finding in ref.findings],
    }
