"""Cases of a labelled data set, and their split into training, validation and test."""

from __future__ import annotations

import json
from pathlib import Path

from nestseg_prep.dicom.scan import SeriesRef, scan
from nestseg_prep.errors import InputError
from nestseg_prep.selection import Selection

SPLITS = ("train", "val", "test")
_DECATHLON = {"train": "training", "val": "validation", "test": "test"}


def cases(dataset_dir: str | Path, split: str) -> list[dict[str, str]]:
    """The cases of one split of a data set: of its folder, or of a datalist.

    A datalist is a JSON file ``{"train": [{"image": path, "label": path}, …], "val": […], "test":
    […]}``, also with the Decathlon's keys ``training`` and ``validation``; its relative paths start
    at its own folder. A folder is laid out as ``images/``, ``labels/`` and ``index.json``, which
    holds ``{"split": {"train": [file names], "val": […], "test": […]}}``; an image
    and its label share their file name.

    Args:
        dataset_dir: the folder of the data set, or a datalist.
        split: ``"train"``, ``"val"`` or ``"test"``.

    Returns:
        ``[{"image": path, "label": path}, …]`` in the order of the index.

    Raises:
        InputError: the index is missing or unreadable, or names a file that is not there.
    """
    root = Path(str(dataset_dir))
    if root.is_file():
        return _listed(root, split)
    index = root / "index.json"
    try:
        names = json.loads(index.read_text())["split"][split]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{index}: no list of cases under split/{split}; write one file name a case"
        ) from error
    found = [{"image": root / "images" / n, "label": root / "labels" / n} for n in names]
    return _existing(found, index)


def _listed(datalist: Path, split: str) -> list[dict[str, str]]:
    try:
        lists = json.loads(datalist.read_text())
        items = lists[split if split in lists else _DECATHLON[split]]
        found = [
            {key: datalist.parent / str(item[key]) for key in ("image", "label")} for item in items
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{datalist}: no list of image and label under {split}; write one"
        ) from error
    return _existing(found, datalist)


def _existing(found: list[dict[str, Path]], index: Path) -> list[dict[str, str]]:
    for case in found:
        for path in case.values():
            if not path.is_file():
                raise InputError(f"{path}: named by {index.name} but not there")
    return [{key: str(path) for key, path in case.items()} for case in found]


def inputs(dataset_dir: str | Path, selection: Selection) -> list[dict[str, SeriesRef]]:
    """Every readable image below a folder that fits a bundle: NIfTI files and DICOM series.

    Args:
        dataset_dir: a folder, at any depth; numeric names are allowed.
        selection: the bundle's rule.

    Returns:
        ``[{"image": series}, …]`` for the dataset of an inference config.

    Raises:
        InputError: nothing there fits.
    """
    root = Path(str(dataset_dir))
    found = [
        {"image": ref}
        for ref in scan(root).series
        if ref.accepted and selection.why_not(ref) is None
    ]
    if not found:
        raise InputError(
            f"{root}: no image that fits the bundle; `nestseg scan` says what is there"
        )
    return found
