"""The prep stage: every series of a folder as NIfTI, and a record of what became of each."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from nestseg_prep.dicom.references import ScanResult, SeriesRef
from nestseg_prep.dicom.rules import SAFE, Rules
from nestseg_prep.dicom.scan import scan
from nestseg_prep.errors import InputError
from nestseg_prep.nifti import write_nifti
from nestseg_prep.reading import read_volume
from nestseg_prep.site_key import mark_folder

RECORD_NAME: Final = "series.json"
UNPACKED_NAME: Final = ".unpacked"
_RECORD_VERSION: Final = 1


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
    """Writes each accepted series of a folder as ``<key>.nii.gz`` with a record beside.

    ``series.json`` names every series found, with its output or with the code and sentence of its
    refusal. A series whose files have not changed since an earlier run is kept. One that fails
    stops no other.

    Args:
        root: folder with DICOM and NIfTI files, or zip or tar files of them.
        out: folder for the outputs, outside ``root``; made if it is missing.
        rules: what is refused.
        on_series: called when a series is finished.

    Raises:
        InputError: ``root`` does not exist, or ``out`` lies in it or cannot be written.
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
    before = _read_record(out / RECORD_NAME)
    outcomes: list[Outcome] = []
    entries: dict[str, Any] = {}
    for ref in scanned.series:
        entry = ref.to_json()
        digest = _input_digest(ref, root)
        outcome = _prepared(ref, out, unchanged=_is_unchanged(before.get(ref.key), digest, out))
        entry |= {"state": outcome.state, "error": outcome.error, "input_digest": digest}
        if outcome.output is not None:
            size = outcome.output.stat().st_size
            entry |= {"output": outcome.output.name, "output_bytes": size}
        entries[ref.key] = entry
        outcomes.append(outcome)
        # After each series, so that an interrupted run resumes where it stopped; what an earlier
        # run knew stays until this one gets there.
        _write_record(out / RECORD_NAME, before | entries, scanned)
        if on_series is not None:
            on_series(outcome)
    _write_record(out / RECORD_NAME, entries, scanned)
    return PrepareReport(tuple(outcomes), scanned)


def _prepared(ref: SeriesRef, out: Path, *, unchanged: bool) -> Outcome:
    output = out / f"{ref.key}.nii.gz"
    if not ref.accepted:
        return Outcome(ref, "refused")
    if unchanged:
        return Outcome(ref, "kept", output)
    try:
        write_nifti(read_volume(ref), output)
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
    if not root.exists():
        msg = f"{root}: no such folder; check the path"
        raise InputError(msg)
    if out.resolve().is_relative_to(root.resolve()):
        msg = f"{out}: lies inside the input folder; choose another output folder"
        raise InputError(msg)
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".{os.getpid()}.probe"
        probe.write_bytes(b"")
        probe.unlink()
        mark_folder(out)
    except OSError as error:
        msg = f"{out}: cannot be written ({_reason(error)}); choose another output folder"
        raise InputError(msg) from error


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


def _read_record(path: Path) -> dict[str, Any]:
    """Entries by key; a record that cannot be read counts as none: outputs are made anew."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["version"] != _RECORD_VERSION:
            return {}
        return {entry["key"]: entry for entry in record["series"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


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
