"""A prepared training set as files: arrays that are read one sample at a time, and their record.

A case's files are called by a digest of all that they are made of, the contents of its inputs and
the settings; what has changed has another name, and what is there under its name is right. The
case's own record (``DIGEST.json``) is written behind its arrays: without it they do not count.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nestseg_prep.errors import InputError

RECORD_NAME: Final = "prepared.json"
_VERSION: Final = 1
_DIGITS: Final = 32
_OURS: Final = re.compile(rf"\.?[0-9a-f]{{{_DIGITS}}}(\.\w+\.npy|\.json)(\.\d+\.partial)?")

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class StoredArray:
    """One array of a case: a file ``(samples, *shape)`` in numpy's own format, uncompressed."""

    file: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int


@dataclass(frozen=True)
class StoredCase:
    """The samples of one case.

    Attributes:
        digest: of the case's inputs and the settings.
        arrays: by the key in a sample.
        notes: of each sample, whatever JSON holds.
        classes: voxels of each class in the targets.
    """

    digest: str
    arrays: dict[str, StoredArray]
    notes: list[dict[str, Any]]
    classes: dict[str, int]

    @property
    def bytes(self) -> int:
        """Of all arrays."""
        return sum(array.bytes for array in self.arrays.values())


def digest_of(content: Any) -> str:
    """SHA-256 of something as canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=True)
    return hashlib.sha256(text.encode()).hexdigest()


class InputDigests:
    """Digests of the contents of files and folders; each is read once.

    Args:
        known: what :attr:`known` was in an earlier run. A file with the size and the time of change
            that it had then is not read again.
    """

    def __init__(self, known: Mapping[str, Sequence[str]] | None = None) -> None:
        self._earlier = dict(known or {})
        self.known: dict[str, Sequence[str]] = {}

    def of(self, path: Path) -> str:
        """SHA-256 of a file's content, or of the names and contents below a folder.

        Raises:
            OSError: it cannot be read.
        """
        # Paths may hold names of patients: the record has only their digests.
        place = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        facts = digest_of([[os.path.relpath(p, path), *_facts(p)] for p in files])
        for earlier in (self.known, self._earlier):
            if place in earlier and earlier[place][0] == facts:
                self.known[place] = earlier[place]
                return str(earlier[place][1])
        contents = [[os.path.relpath(p, path), _sha256(p)] for p in files]
        digest = digest_of(contents) if path.is_dir() else contents[0][1]
        self.known[place] = (facts, digest)
        return digest

    def of_case(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """The digest under each key that holds a path, and any other value as text."""
        found = {}
        for key, value in case.items():
            is_path = isinstance(value, str | Path) and Path(value).exists()
            found[str(key)] = self.of(Path(value)) if is_path else repr(value)
        return found


def case_digest(inputs: Mapping[str, Any], settings_digest: str) -> str:
    """What a case's files are called."""
    return digest_of([inputs, settings_digest])[:_DIGITS]


def write_case(
    folder: Path,
    digest: str,
    samples: Sequence[Mapping[str, Array]],
    notes: list[dict[str, Any]],
    target: str,
) -> StoredCase:
    """Write the samples of a case; its record comes last.

    Args:
        folder: of the prepared set.
        digest: from :func:`case_digest`.
        samples: arrays by key; all samples have the same keys, shapes and dtypes.
        notes: of each sample, kept as JSON.
        target: key of the classes, in channel 0; their voxels are counted.

    Raises:
        ValueError: samples that are not alike, a key that is no name, or notes that JSON cannot
            hold.
        OSError: a file cannot be written.
    """
    json.dumps(notes)
    stored = {}
    for key in samples[0]:
        if not key.isidentifier():
            raise ValueError(f"the key {key!r} is no name that a file can have")
        name = f"{digest}.{key}.npy"
        arrays = [sample[key] for sample in samples]
        _write_array(folder / name, arrays)
        size = (folder / name).stat().st_size
        stored[key] = StoredArray(name, arrays[0].shape, str(arrays[0].dtype), size)
    case = StoredCase(digest, stored, notes, _count(sample.get(target) for sample in samples))
    write_json(folder / f"{digest}.json", asdict(case))
    return case


def find_case(folder: Path, digest: str) -> StoredCase | None:
    """A case that was written whole, or nothing."""
    try:
        content = json.loads((folder / f"{digest}.json").read_text(encoding="utf-8"))
        arrays = {
            key: StoredArray(**{**array, "shape": tuple(array["shape"])})
            for key, array in content["arrays"].items()
        }
        whole = all((folder / a.file).stat().st_size == a.bytes for a in arrays.values())
        case = StoredCase(digest, arrays, list(content["notes"]), dict(content["classes"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return case if whole else None


def read_sample(
    folder: Path, case: StoredCase, index: int, *, mapped: bool = False
) -> dict[str, Array]:
    """The arrays of one sample; no other part of the files is read.

    Args:
        folder: of the prepared set.
        case: in it.
        index: of the sample.
        mapped: for a caller that wants a part of them: what is not used is not read, and the files
            are held as long as the arrays. What is written stays in this process. Else copies.

    Raises:
        InputError: a file is gone or damaged.
    """
    found = {}
    for key, array in case.arrays.items():
        try:
            stored = np.asanyarray(np.load(folder / array.file, mmap_mode="c")[index])
            found[key] = stored if mapped else np.array(stored)
        except (OSError, ValueError, IndexError) as error:
            raise InputError(
                f"{folder / array.file}: gone or damaged; run `nestseg prepare` again"
            ) from error
    return found


def read_record(folder: Path) -> dict[str, Any]:
    """``prepared.json``; empty where there is none that can be read."""
    try:
        record = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
        return dict(record) if record["version"] == _VERSION else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def write_record(
    folder: Path,
    settings: dict[str, Any],
    cases: list[dict[str, Any]],
    digests: InputDigests,
) -> None:
    """Write ``prepared.json``, then remove the files of cases that it does not name."""
    content = {
        "version": _VERSION,
        "digest": digest_of(settings),
        "settings": settings,
        "cases": cases,
        "inputs": digests.known,
    }
    write_json(folder / RECORD_NAME, content, indent=1)
    named = {case["digest"] for case in cases if case["digest"]}
    for path in folder.iterdir():
        stem = path.name.lstrip(".")[:_DIGITS]
        if _OURS.fullmatch(path.name) and (stem not in named or path.suffix == ".partial"):
            path.unlink(missing_ok=True)


def write_json(path: Path, content: Any, indent: int | None = None) -> None:
    """Write JSON, whole under its name or not at all."""
    with _whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=indent), encoding="utf-8")


def _write_array(path: Path, arrays: Sequence[Array]) -> None:
    first = arrays[0]
    if any(a.shape != first.shape or a.dtype != first.dtype for a in arrays):
        raise ValueError("the samples of one image have several sizes")
    with _whole(path) as temporary, temporary.open("wb") as file:
        header = {"descr": first.dtype.str, "fortran_order": False}
        np.lib.format.write_array_header_1_0(file, header | {"shape": (len(arrays), *first.shape)})
        for array in arrays:
            file.write(np.ascontiguousarray(array).data)


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _count(targets: Iterable[Array | None]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for target in targets:
        if target is not None:
            values, voxels = np.unique(target[0], return_counts=True)
            for value, number in zip(values, voxels, strict=True):
                name = f"{value:g}"
                counts[name] = counts.get(name, 0) + int(number)
    return counts


def _facts(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
