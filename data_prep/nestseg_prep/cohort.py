"""Cases of a labelled data set, and their split into training, validation and test."""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from nestseg_prep.dicom.scan import SeriesRef, scan
from nestseg_prep.errors import InputError
from nestseg_prep.reading import SUFFIXES
from nestseg_prep.selection import Selection

SPLITS = ("train", "val", "test")
_MONAI_NAMES = {"train": "training", "val": "validation", "test": "test"}

Case: TypeAlias = dict[str, str]


def existing(listed: Sequence[Case]) -> Sequence[Case]:
    """The cases themselves, if all of their files are there.

    Raises:
        InputError: one is not.
    """
    for case in {id(case): case for case in listed}.values():
        for path in case.values():
            if not Path(path).exists():
                raise InputError(f"{path}: no such file; check the folder of the data set")
    return listed


def cases(dataset: str | Path, split: str) -> list[Case]:
    """The cases of one split of a labelled data set.

    Args:
        dataset: a datalist ``{"train": [{"image": path, "label": path}, ...], "val": ..., "test":
            ...}`` (MONAI's ``"training"``, ``"validation"`` too), its paths relative to its folder;
            or a folder with ``index.json``, ``{"split": {"train": [file names], ...}}``, where an
            image in ``images/`` and its label in ``labels/`` share their name (the ending may be
            left out); or one in the layout of the ISBI 2012 challenge, ``train/image`` and
            ``train/label`` with ``split.json``,
            ``{"main": {"train": [numbers], "val": [numbers]}}``, which count the sorted files.
        split: ``"train"``, ``"val"`` or ``"test"``.

    Returns:
        The cases in the order of the list.

    Raises:
        InputError: there is no such list, it is unreadable, or it names a file that is not there.
    """
    root = Path(str(dataset))
    there = [layout for layout in _layouts(root) if layout[0].is_file()]
    if not there:
        raise InputError(f"{root}: no data set; give a datalist or a folder with an index.json")
    index, listed = there[0]
    try:
        found = listed(index, split)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(
            f"{index}: no list of cases for `{split}`; write one entry a case"
        ) from error
    for case in found:
        for path in case.values():
            if not Path(path).exists():
                raise InputError(f"{path}: named by {index.name} but not there")
    return found


def label_maps(folder: str | Path) -> list[Case]:
    """The label maps that training images are synthesised from.

    Args:
        folder: one with NIfTI files, or a labelled data set, whose training labels are taken.

    Returns:
        ``[{"label": path}, …]``, sorted by path.

    Raises:
        InputError: there are none.
    """
    root = Path(str(folder))
    if any(index.is_file() for index, _ in _layouts(root)):
        found = [case["label"] for case in cases(root, "train")]
    else:
        found = [str(path) for path in root.glob("*") if path.name.endswith(SUFFIXES)]
    if not found:
        raise InputError(
            f"{root}: no label maps; give a data set, or a folder of files that end in one of "
            f"{', '.join(SUFFIXES)}"
        )
    return [{"label": path} for path in sorted(found)]


def _layouts(root: Path) -> list[tuple[Path, Callable[[Path, str], list[Case]]]]:
    if root.suffix == ".json":
        return [(root, _in_datalist)]
    return [(root / "index.json", _in_index), (root / "split.json", _in_sections)]


def _in_datalist(index: Path, split: str) -> list[Case]:
    content = json.loads(index.read_text())
    entries = content[split if split in content else _MONAI_NAMES[split]]
    return [{key: str(index.parent / case[key]) for key in ("image", "label")} for case in entries]


def _in_index(index: Path, split: str) -> list[Case]:
    names = json.loads(index.read_text())["split"][split]
    folders = {"image": index.parent / "images", "label": index.parent / "labels"}
    return [{key: str(_named(folder, n)) for key, folder in folders.items()} for n in names]


def _named(folder: Path, name: str) -> Path:
    """A file by its name, or by its name without the ending where only one begins so."""
    path = folder / name
    found = [path] if path.exists() else list(folder.glob(f"{glob.escape(name)}.*"))
    return found[0] if len(found) == 1 else path


def _in_sections(index: Path, split: str) -> list[Case]:
    numbers = json.loads(index.read_text())["main"][split]
    images, labels = (sorted((index.parent / "train" / k).iterdir()) for k in ("image", "label"))
    return [{"image": str(images[n]), "label": str(labels[n])} for n in numbers]


def inputs(dataset_dir: str | Path, selection: Selection) -> list[dict[str, SeriesRef]]:
    """Every readable image below a folder that fits a bundle: NIfTI files and DICOM series.

    Args:
        dataset_dir: a folder, at any depth; numeric names are allowed.
        selection: the bundle's rule.

    Returns:
        ``[{"image": series}, …]`` for the dataset of an inference config.

    Raises:
        InputError: there is no such folder, or nothing in it fits.
    """
    root = Path(str(dataset_dir))
    if not root.exists():
        raise InputError(f"{root}: no such file or folder; check the path")
    series = scan(root, pictures=selection.pictures).series
    found = [{"image": one.ref} for one in selection.decide(series) if one.taken]
    if not found:
        raise InputError(
            f"{root}: no image that fits the bundle; `nestseg scan` says what is there"
        )
    return found
