"""The folder of what is being received: studies grow in it until they are quiet and whole.

``incoming/STUDY/OBJECT.dcm`` → ``ready/STUDY-n/`` → gone, or ``failed/STUDY-n/``; every step is a
rename, so a listener that was killed resumes where it was. Names are keyed hashes of UIDs.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Final

from nestseg.pacs.unfinished import Sender, Unfinished
from nestseg_prep.dicom import files, headers
from nestseg_prep.dicom.lengths import Pixels
from nestseg_prep.errors import OutputError
from nestseg_prep.site_key import keyed_hash

# PS3.4 B.2.3: status of a C-STORE.
STORED: Final = 0x0000
OUT_OF_RESOURCES: Final = 0xA700
DOES_NOT_MATCH: Final = 0xA900
CANNOT_UNDERSTAND: Final = 0xC000

_DIGITS: Final = 16


class Incoming:
    """Objects on their way to complete studies. Safe for the threads of a listener.

    Args:
        folder: made if missing, for this user alone.
        quota: bytes that may lie in it.

    Raises:
        OutputError: the folder cannot be made.
    """

    def __init__(self, folder: Path, quota: int) -> None:
        self.quota = quota
        self._stages = {name: folder / name for name in ("incoming", "ready", "failed")}
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for stage in self._stages.values():
                stage.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise OutputError(f"{folder}: cannot be written ({error.strerror})") from error
        for partial in folder.glob("incoming/*.partial"):  # of a listener that was killed
            partial.unlink()
        self._lock = threading.Lock()
        self._unfinished = Unfinished(self._stages["incoming"])
        self._dropped: Counter[str] = Counter()
        self._told: set[str] = set()
        self._used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        self._touched: dict[str, float] = {}

    @property
    def used(self) -> int:
        """Bytes that lie in the folder."""
        return self._used

    def store(self, content: bytes, sop_uid: str, sender: Sender | None = None) -> int:
        """Keep one object, unless it is damaged or there is no room.

        Args:
            content: a DICOM file.
            sop_uid: SOPInstanceUID that its sender announced.
            sender: the association that it comes by, whose end is then waited for.

        Returns:
            The DICOM status for its sender.
        """
        with self._lock:
            if self._used + len(content) > self.quota:
                return OUT_OF_RESOURCES
            self._used += len(content)  # claimed: other threads write at the same time
        kept = 0
        try:
            status, kept = self._keep(content, sop_uid, sender)
        except OSError:  # the disk is full, or gone
            status = OUT_OF_RESOURCES
        finally:
            with self._lock:
                self._used += kept - len(content)
        return status

    def drop(self, study_uid: str, series_uid: str, sender: Sender) -> int:
        """Count an object that is accepted only so that its sender continues with the others.

        Returns:
            The DICOM status for its sender.
        """
        study = _name(study_uid)
        try:
            with self._lock:
                (self._stages["incoming"] / study).mkdir(exist_ok=True, mode=0o700)
                self._touch(study, _name(series_uid), sender)
                self._dropped[study] += 1
        except OSError:
            return OUT_OF_RESOURCES
        return STORED

    def released(self, sender: Sender) -> None:
        """An association ends in order: its studies lack nothing that it was to send."""
        with self._lock:
            self._unfinished.released(sender)

    def _touch(self, study: str, series: str, sender: Sender | None) -> None:
        if sender is not None:
            self._unfinished.sends(sender, study, series)
        self._touched[study] = time.monotonic()
        self._told.discard(study)

    def _keep(self, content: bytes, sop_uid: str, sender: Sender | None) -> tuple[int, int]:
        """Writes an object under a temporary name, looks at it, and renames it."""
        handle, name = tempfile.mkstemp(dir=self._stages["incoming"], suffix=".partial")
        partial = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            header = headers.read_header(partial)
            if header.pixels is Pixels.CUT or not header.study_uid or not header.series_uid:
                return CANNOT_UNDERSTAND, 0
            if header.sop_uid != sop_uid:
                return DOES_NOT_MATCH, 0
            study = _name(header.study_uid)
            with self._lock:
                folder = self._stages["incoming"] / study
                folder.mkdir(exist_ok=True, mode=0o700)
                path = folder / f"{_name(sop_uid)}.dcm"
                before = path.stat().st_size if path.exists() else 0
                self._touch(study, _name(header.series_uid), sender)
                partial.replace(path)
            return STORED, len(content) - before
        except (files.NotDicomError, files.DamagedFileError):
            return CANNOT_UNDERSTAND, 0
        finally:
            partial.unlink(missing_ok=True)

    def complete(self, quiet_seconds: float) -> list[Path]:
        """The folders of studies that are quiet and whole, out of the way of new objects.

        Studies that an earlier listener left behind are among them.
        """
        with self._lock:
            for folder in self._quiet(quiet_seconds):
                if not self._unfinished.is_broken(folder.name):
                    folder.rename(self._free("ready", folder.name))
                    del self._touched[folder.name]
        return sorted(self._stages["ready"].iterdir())

    def incomplete(self, quiet_seconds: float) -> list[Path]:
        """The folders of studies that are quiet, and whose transfer was broken off.

        They stay where they are until they are sent again. Each is told once for each break.
        """
        with self._lock:
            found = [
                folder
                for folder in self._quiet(quiet_seconds)
                if folder.name not in self._told and self._unfinished.is_broken(folder.name)
            ]
            self._told.update(folder.name for folder in found)
        return found

    def dropped(self, study: str) -> int:
        """How many objects of a study were dropped since this was last asked."""
        with self._lock:
            return self._dropped.pop(study, 0)

    def _quiet(self, seconds: float) -> list[Path]:
        """Studies for which nothing came for a while, and of which no sender is connected."""
        now = time.monotonic()
        return [
            folder
            for folder in sorted(self._stages["incoming"].iterdir())
            # After a restart the wait starts again: more may be on its way.
            if folder.is_dir()
            and now - self._touched.setdefault(folder.name, now) >= seconds
            and not self._unfinished.is_open(folder.name)
        ]

    def done(self, folder: Path) -> None:
        """Delete a study that was worked on."""
        size = sum(path.stat().st_size for path in folder.iterdir())
        shutil.rmtree(folder)
        with self._lock:
            self._used -= size

    def failed(self, folder: Path) -> Path:
        """Put a study aside, for a person to look at; it still counts for the quota."""
        aside = self._free("failed", folder.name.partition("-")[0])
        folder.rename(aside)
        return aside

    def _free(self, stage: str, name: str) -> Path:
        parent = self._stages[stage]
        number = 1
        while (path := parent / f"{name}-{number}").exists():
            number += 1
        return path


def _name(uid: str) -> str:
    return keyed_hash(uid).hex()[:_DIGITS]
