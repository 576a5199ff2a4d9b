"""The part of a training pipeline that is the same in every epoch, and what it makes of a case."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Compose, RandomizableTrait, Transform
from torch import Tensor

from nestseg_prep.transforms.describe import describe

TARGET = "label"
_FILE = "filename_or_obj"

Case = Mapping[str, Any]
Arrays = dict[str, np.ndarray[Any, Any]]
Notes = dict[str, Any]


def first_random(transform: Compose) -> int:
    """Number of transforms before the first random one, as MONAI's ``CacheDataset`` counts."""
    for index, step in enumerate(transform.transforms):
        if isinstance(step, RandomizableTrait) or not isinstance(step, Transform):
            return index
    return len(transform.transforms)


def settings(transform: Compose) -> dict[str, Any]:
    """All that a case's samples depend on besides its inputs.

    Raises:
        TypeError: a transform hides what it does.
    """
    steps = transform.transforms[: first_random(transform)]
    return {
        "versions": {name: _version(name) for name in ("nestseg", "monai")},
        "transforms": [describe(step) for step in steps],
    }


def make_samples(case: Case, transform: Compose) -> list[tuple[Arrays, Notes]]:
    """Run the part of a pipeline that is not random.

    Args:
        case: what a cohort lists.
        transform: the whole pipeline.

    Returns:
        For each sample its arrays by key, and what else there is to know. One sample, unless a
        transform cuts patches.
    """
    made = transform(dict(case), end=first_random(transform))
    return [_taken_apart(sample) for sample in (made if isinstance(made, list) else [made])]


def join(
    case: Case, arrays: Arrays, notes: Notes, *, with_metadata: bool = True
) -> dict[Hashable, Any]:
    """The sample again, as it came out of the pipeline, but for MONAI's list of what was done.

    Args:
        case: where it comes from.
        arrays: from :func:`make_samples`; used, not copied.
        notes: likewise.
        with_metadata: whether images are ``MetaTensor``; else plain tensors.
    """
    sample: dict[Hashable, Any] = dict(notes["values"])
    for key, array in arrays.items():
        meta = notes["meta"].get(key) if with_metadata else None
        if meta is None:
            sample[key] = array if key in notes["arrays"] else torch.from_numpy(array)
            continue
        decoded = {name: _decoded(value) for name, value in meta.items()}
        if _FILE in decoded:
            decoded[_FILE] = str(case.get(key, ""))
        affine = decoded.pop("affine")
        sample[key] = MetaTensor(torch.from_numpy(array), affine=affine, meta=decoded)
    return sample


def _taken_apart(sample: Mapping[Hashable, Any]) -> tuple[Arrays, Notes]:
    arrays: Arrays = {}
    values: dict[str, Any] = {}
    metas: dict[str, Any] = {}
    untracked = []
    for key, value in sample.items():
        name = str(key)
        if isinstance(value, Tensor):
            arrays[name] = np.array(value.detach().cpu().numpy(), order="C")
        elif isinstance(value, np.ndarray):
            arrays[name] = np.array(value, order="C")
            untracked.append(name)
        else:
            values[name] = value
        if isinstance(value, MetaTensor):
            meta = {**value.meta, "affine": value.affine}
            if _FILE in meta:  # the case knows: the set may have been prepared elsewhere
                meta[_FILE] = ""
            metas[name] = {str(k): _encoded(v) for k, v in meta.items() if _can_be_kept(v)}
    return arrays, {"values": values, "meta": metas, "arrays": untracked}


def _can_be_kept(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray | bool | int | float | str | type(None))


def _encoded(value: Any) -> Any:
    if isinstance(value, Tensor):
        array = value.detach().cpu().numpy()
        return {"tensor": array.tolist(), "dtype": str(array.dtype)}
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": str(value.dtype)}
    return str(value) if isinstance(value, str) else value


def _decoded(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    array = np.array(value.get("array", value.get("tensor")), dtype=value["dtype"])
    return array if "array" in value else torch.from_numpy(array)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # nestseg from a bare checkout
        return ""
