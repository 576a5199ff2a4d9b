"""The training set of a bundle: from a prepared folder where there is one, else made in memory."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.data.dataset import Dataset
from monai.transforms import Compose

from nestseg_prep import prepared
from nestseg_prep.absent import Absent
from nestseg_prep.errors import InputError
from nestseg_prep.prepared import InputDigests, StoredCase
from nestseg_prep.transforms.placeless import cuts_patches, placeless_keys, without_metadata
from nestseg_prep.transforms.prepare import described
from nestseg_prep.transforms.samples import Arrays, Case, Notes, first_random, join, make_samples


@dataclass(frozen=True)
class _InMemory:
    case: Case
    arrays: Arrays
    notes: Notes

    def read(self, *, with_metadata: bool, shared: bool) -> dict[Any, Any]:
        arrays = self.arrays if shared else deepcopy(self.arrays)
        notes = _values(self.notes, with_metadata)
        return join(self.case, arrays, notes, with_metadata=with_metadata)


@dataclass(frozen=True)
class _OnDisk:
    case: Case
    folder: Path
    stored: StoredCase
    index: int

    @property
    def notes(self) -> Notes:
        return self.stored.notes[self.index]

    def read(self, *, with_metadata: bool, shared: bool) -> dict[Any, Any]:
        arrays = prepared.read_sample(self.folder, self.stored, self.index, mapped=shared)
        notes = _values(self.notes, with_metadata)
        return join(self.case, arrays, notes, with_metadata=with_metadata)


class TrainingSet(Dataset):
    """Samples of a training pipeline; all before its first random transform is done only once.

    Without ``prepared_dir`` that is here and now, and the results stay in memory, as in MONAI's
    ``CacheDataset``. With it they are read from there, a sample at a time: from the same seed, the
    same samples to the last bit. Where a transform before the random ones cuts patches, each patch
    is a sample. MONAI's ``PersistentDataset`` notices neither a changed input nor a changed
    transform, and forgets where an image lies.

    Where the pipeline ends by dropping the metadata of its images, and nothing before that looks at
    them, the random transforms get plain tensors: the same samples to the last bit, in less time.
    Where the first of them cuts a patch, no more than the patch is read or copied.

    Args:
        data: cases, as ``nestseg_prep.cohort.cases`` lists them. Of an ``Absent`` nothing is read
            before a sample is asked for.
        transform: the whole pipeline.
        prepared_dir: a folder that ``nestseg prepare --bundle`` wrote.
        device: where the random transforms compute; the samples stay there. ``None``: on the CPU.
            The draws are the same everywhere, the arithmetic differs by rounding. On a GPU without
            worker processes: a process that was forked cannot use it.

    Raises:
        InputError: the folder was made of other inputs or by other settings; or, without it, an
            input that cannot be read.
    """

    def __init__(
        self,
        data: Sequence[Case],
        transform: Compose,
        prepared_dir: str | Path | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        samples: Sequence[Any] = data
        if not isinstance(data, Absent):
            samples = (
                _make(data, transform)
                if prepared_dir is None
                else _find(data, transform, Path(prepared_dir))
            )
        super().__init__(samples, transform)
        self._device = None if device is None else torch.device(device)
        self._first_random = first_random(transform)
        steps = transform.transforms[self._first_random :]
        self._placeless = placeless_keys(steps)
        self._crops_first = cuts_patches(steps)

    def _transform(self, index: int) -> Any:
        source: _InMemory | _OnDisk = self.data[index]
        if not source.notes["meta"].keys() <= self._placeless:
            return self._augmented(source, with_metadata=True)
        with without_metadata():
            return self._augmented(source, with_metadata=False)

    def _augmented(self, source: _InMemory | _OnDisk, *, with_metadata: bool) -> Any:
        # Some transforms work in place. What only cuts may have the original, the others a copy.
        sample: Any = source.read(with_metadata=with_metadata, shared=self._crops_first)
        start = self._first_random
        if self._crops_first:
            sample = self.transform(sample, start=start, end=start + 1)
            start += 1
        for one in sample if isinstance(sample, list) else [sample]:
            for key, value in one.items():
                if isinstance(value, torch.Tensor):
                    one[key] = value.to(self._device or value.device, copy=self._crops_first)
        return self.transform(sample, start=start)


def _values(notes: Notes, with_metadata: bool) -> Notes:
    """A copy of the notes of a sample, without those on images where nobody reads them."""
    return deepcopy(notes if with_metadata else {**notes, "meta": {}})


def _make(data: Sequence[Case], transform: Compose) -> list[_InMemory]:
    # A case that the list repeats, for more crops of it an epoch, is made and held once.
    made = {id(case): make_samples(case, transform) for case in {id(c): c for c in data}.values()}
    return [_InMemory(case, *sample) for case in data for sample in made[id(case)]]


def _find(data: Sequence[Case], transform: Compose, folder: Path) -> list[_OnDisk]:
    record = prepared.read_record(folder)
    if not record:
        raise InputError(
            f"{folder}: no prepared training set; run `nestseg prepare DATASET --bundle NAME --out "
            "DIR`, or leave `prepared_dir` out"
        )
    made_of = described(transform)
    settings_digest = prepared.digest_of(made_of)
    if record["digest"] != settings_digest:
        raise InputError(
            f"{folder}: prepared by other settings ({_difference(record['settings'], made_of)}); "
            "run `nestseg prepare` again with this bundle"
        )
    digests = InputDigests(record["inputs"])
    found: list[_OnDisk] = []
    for number, case in enumerate(data):
        digest = prepared.case_digest(digests.of_case(case), settings_digest)
        stored = prepared.find_case(folder, digest)
        if stored is None:
            raise InputError(
                f"{folder}: case {number} is new, changed or damaged since it was prepared; run "
                "`nestseg prepare` again"
            )
        found += [_OnDisk(case, folder, stored, index) for index in range(len(stored.notes))]
    return found


def _difference(old: Any, new: Any, place: str = "") -> str:
    """Where two settings first differ."""
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        pairs = [(key, old[key], new[key]) for key in new]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(str(i), a, b) for i, (a, b) in enumerate(zip(old, new, strict=True))]
    else:
        return place.removeprefix("#")
    changed = [(key, a, b) for key, a, b in pairs if prepared.digest_of(a) != prepared.digest_of(b)]
    key, a, b = changed[0]
    return _difference(a, b, f"{place}#{key}")
