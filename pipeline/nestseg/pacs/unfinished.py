"""Which studies may still be lacking something, because a transfer of theirs did not end in order.

DICOM says nothing of a study's end, but an association has one: a release. One that ends otherwise
leaves an empty file ``STUDY.SERIES.open`` behind, named after what it sent last. It goes when a
later association has sent of the same series and ends in order. The files are there from the first
object on, so that a listener that is killed leaves them too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from nestseg_prep.disk import sync_folder

_ENDING: Final = ".open"


class Sender(Protocol):
    """An association: a thread that ends with it."""

    def is_alive(self) -> bool:
        """Whether it may still send."""


@dataclass
class _Sent:
    """What one association has sent of one study: its series, the last one behind."""

    series: list[str] = field(default_factory=list)
    own: str = ""  # the series whose file this association has made


class Unfinished:
    """Transfers in one folder; not safe for threads by itself.

    Args:
        folder: where the files lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sent: dict[Sender, dict[str, _Sent]] = {}

    def sends(self, sender: Sender, study: str, series: str) -> None:
        """Note what an association sends, before it is told that the object is stored.

        Raises:
            OSError: the folder cannot be written.
        """
        sent = self._sent.setdefault(sender, {}).setdefault(study, _Sent())
        if sent.series and sent.series[-1] == series:
            return
        mark = self._mark(study, series)
        fresh = not mark.exists()
        if fresh:
            mark.touch(mode=0o600)
            sync_folder(self._folder)
        if sent.own:
            self._mark(study, sent.own).unlink(missing_ok=True)
        sent.own = series if fresh else ""
        sent.series = [one for one in sent.series if one != series] + [series]

    def released(self, sender: Sender) -> None:
        """An association ends in order: what it has sent is whole."""
        for study, sent in self._sent.pop(sender, {}).items():
            # What was acknowledged outlasts a power cut before it counts as whole.
            sync_folder(self._folder / study)
            for series in sent.series:
                self._mark(study, series).unlink(missing_ok=True)

    def is_open(self, study: str) -> bool:
        """Whether an association that has sent of a study still lasts."""
        for sender, studies in list(self._sent.items()):
            if not sender.is_alive():
                for name, sent in studies.items():  # another one may have removed the file
                    self._mark(name, sent.series[-1]).touch(mode=0o600)
                del self._sent[sender]
        return any(study in studies for studies in self._sent.values())

    def is_broken(self, study: str) -> bool:
        """Whether a transfer was broken off and not made good since."""
        return any(self._folder.glob(f"{study}.*{_ENDING}"))

    def _mark(self, study: str, series: str) -> Path:
        return self._folder / f"{study}.{series}{_ENDING}"
