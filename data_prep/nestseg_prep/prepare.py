"""The prep stage: every series of a folder as NIfTI, and a record of what became of each."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, Self

from nestseg_prep.dicom.references import ScanResult, SeriesRef
from nestseg_prep.dicom.rules import SAFE, Rules
from nestseg_prep.dicom.scan import scan
from nestseg_prep.disk import check_writable
from nestseg_prep.errors import InputError
from nestseg_prep.nifti import write_nifti
from nestseg_prep.reading import read_volume

RECORD_NAME: Final = "series.json"
UNPACKED_NAME: Final = ".unpacked"
_LOG_NAME: Final = ".series.jsonl"
_RECORD_VERSION: Final = 2  # 1 left the scanner's padding in the images


@dataclass(frozen=True)
class Outcome:
    """What became of one series.

    Attributes:
        ref: the series.
        state: written now, found written by an earlier run, refused by its headers, or failed
            when its voxels were read.
        output: the NIfTI file, where there is one.
        error: why it failed, one line.
    """

    ref: SeriesRef
    state: Literal["written", "kept", "refused", "failed"]
    output: Path | None = None
    error: str = ""


@dataclass(frozen=True)
class PrepareReport:
    """What a run of the prep stage did."""

    outcomes: tuple[Outcome, ...]
    scanned: ScanResult

    def count(self, state: str) -> int:
        """Number of series in one state."""
        return sum(outcome.state == state for outcome in self.outcomes)


def prepare(
    root: Path,
    out: Path,
    *,
    rules: Rules = SAFE,
    on_series: Callable[[Outcome], None] | None = None,
) -> PrepareReport:
    """Writes each accepted series of a folder as ``<key>.nii.gz`` with a record next to it.

    Voxels without image (a scanner's padding) get the lowest other value, as a network sees them.
    ``series.json`` names every series found, with its output or with the code and sentence of its
    refusal. A series whose files have not changed since an earlier run is kept. One that fails
    does not stop the others.

    Args:
        root: folder with DICOM and NIfTI files, or zip or tar files of them.
        out: folder for the outputs, outside ``root``; made if it is missing.
        rules: what is refused.
        on_series: called when a series is finished.

    Raises:
        InputError: ``root`` does not exist, or ``out`` lies in it.
        OutputError: ``out`` cannot be written.
    """
    _check_folders(root, out)
    # Always the same folder, so that a second run knows an archive's series again.
    unpacked = out / UNPACKED_NAME
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        return _prepare(root, out, scan(root, rules=rules, unpack_to=unpacked), on_series)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _prepare(
    root: Path, out: Path, scanned: ScanResult, on_series: Callable[[Outcome], None] | None
) -> PrepareReport:
    outcomes: list[Outcome] = []
    with _Record(out, scanned) as record:
        for ref in scanned.series:
            digest = _input_digest(ref, root)
            outcome = _prepared(ref, out, unchanged=_is_unchanged(record.known(ref), digest, out))
            entry = ref.to_json()
            entry |= {"state": outcome.state, "error": outcome.error, "input_digest": digest}
            if outcome.output is not None:
                size = outcome.output.stat().st_size
                entry |= {"output": outcome.output.name, "output_bytes": size}
            record.add(entry)
            outcomes.append(outcome)
            if on_series is not None:
                on_series(outcome)
    return PrepareReport(tuple(outcomes), scanned)


def _prepared(ref: SeriesRef, out: Path, *, unchanged: bool) -> Outcome:
    output = out / f"{ref.key}.nii.gz"
    if not ref.accepted:
        return Outcome(ref, "refused")
    if unchanged:
        return Outcome(ref, "kept", output)
    try:
        volume = read_volume(ref)
        write_nifti(replace(volume, array=volume.image, fill=()), output)
    except InputError as error:
        return Outcome(ref, "failed", error=_without_name(str(error), ref))
    except (OSError, MemoryError) as error:
        return Outcome(ref, "failed", error=_reason(error))
    return Outcome(ref, "written", output)


def _reason(error: BaseException) -> str:
    """The kind of a failure; its message may hold a path, and a path may name a patient."""
    text = error.strerror if isinstance(error, OSError) else None
    return text or type(error).__name__


def _without_name(message: str, ref: SeriesRef) -> str:
    return message.removeprefix(f"{ref.files[0].name}: ")


def _check_folders(root: Path, out: Path) -> None:
    with suppress(OSError):  # the scan says what cannot be read
        if not root.exists():
            msg = f"{root}: no such folder; check the path"
            raise InputError(msg)
    check_writable(out, [root])


def _input_digest(ref: SeriesRef, root: Path) -> str:
    """Changes when a file of the series is replaced, added, removed or renamed."""
    digest = hashlib.sha256()
    for path in ref.files:
        try:
            status = path.stat()
            facts = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:
            facts = "gone"
        name = os.path.relpath(path, root)
        digest.update(f"{name}\0{facts}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _is_unchanged(entry: Any, digest: str, out: Path) -> bool:
    """Whether an earlier run wrote this very input to an output that is still there whole."""
    if not isinstance(entry, dict) or entry.get("input_digest") != digest:
        return False
    name, size = entry.get("output"), entry.get("output_bytes")
    if entry.get("state") not in {"written", "kept"} or name != f"{entry.get('key')}.nii.gz":
        return False
    output = out / str(name)
    return output.is_file() and output.stat().st_size == size


class _Record:
    """``series.json`` and, while a run goes on, a log next to it.

    The record is written once, at the end of a run, however it ends. Until then each finished
    series is one line of the log, so that the cost of a series does not grow with their number; the
    next run reads what a killed one left there.

    Args:
        out: where both lie.
        scanned: what the run has found.
    """

    def __init__(self, out: Path, scanned: ScanResult) -> None:
        self._path, self._log_path = out / RECORD_NAME, out / _LOG_NAME
        self._scanned = scanned
        self._before = _read_record(self._path) | _read_log(self._log_path)
        self._entries: dict[str, Any] = {}

    def __enter__(self) -> Self:
        # What a killed run has left there goes into the record before its log is overwritten.
        if self._log_path.exists():
            _write_record(self._path, self._before, self._scanned)
        self._log = self._log_path.open("w", encoding="utf-8")
        self._write_line(_RECORD_VERSION)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._log.close()
        # What an earlier run knew stays where this one did not get to it.
        entries = self._entries if kind is None else self._before | self._entries
        _write_record(self._path, entries, self._scanned)
        self._log_path.unlink()

    def known(self, ref: SeriesRef) -> Any:
        """What an earlier run wrote down about a series, or ``None``."""
        return self._before.get(ref.key)

    def add(self, entry: dict[str, Any]) -> None:
        """Write down what became of a series."""
        self._entries[entry["key"]] = entry
        self._write_line(entry)

    def _write_line(self, content: Any) -> None:
        self._log.write(json.dumps(content) + "\n")
        self._log.flush()
        os.fsync(self._log.fileno())


def _read_record(path: Path) -> dict[str, Any]:
    """Entries by key; a record that cannot be read counts as none: outputs are made again."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["version"] != _RECORD_VERSION:
            return {}
        return {entry["key"]: entry for entry in record["series"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _read_log(path: Path) -> dict[str, Any]:
    """Entries that a killed run has left, up to the line at which it was killed."""
    entries: dict[str, Any] = {}
    with suppress(OSError, ValueError, KeyError, TypeError), path.open(encoding="utf-8") as log:
        if json.loads(next(log, "0")) == _RECORD_VERSION:
            for line in log:
                entry = json.loads(line)
                entries[entry["key"]] = entry
    return entries


def _write_record(path: Path, entries: dict[str, Any], scanned: ScanResult) -> None:
    record = {
        "version": _RECORD_VERSION,
        "series": [entries[key] for key in sorted(entries)],
        "others": scanned.to_json()["others"],
    }
    temporary = path.with_name(f".{os.getpid()}.partial.{path.name}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(record, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
