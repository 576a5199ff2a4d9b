"""Cases of a labelled data set, and their split into training, validation and test."""

from __future__ import annotations

import json
from pathlib import Path

from nestseg_prep.dicom.scan import SeriesRef, scan
from nestseg_prep.errors import InputError
from nestseg_prep.selection import Selection

SPLITS = ("train", "val", "test")


def cases(dataset_dir: str | Path, split: str) -> list[dict[str, str]]:
    """The cases of one split of a data set laid out as ``images/``, ``labels/`` and ``index.json``.

    ``index.json`` holds ``{"split": {"train": [file names], "val": […], "test": […]}}``; an image
    and its label share their file name.

    Args:
        dataset_dir: the folder of the data set.
        split: ``"train"``, ``"val"`` or ``"test"``.

    Returns:
        ``[{"image": path, "label": path}, …]`` in the order of the index.

    Raises:
        InputError: the index is missing or unreadable, or names a file that is not there.
    """
    root = Path(str(dataset_dir))
    index = root / "index.json"
    try:
        names = json.loads(index.read_text())["split"][split]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{index}: no list of cases under split/{split}; write one file name a case"
        ) from error
    found = [{"image": root / "images" / n, "label": root / "labels" / n} for n in names]
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
