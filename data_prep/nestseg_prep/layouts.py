"""Labelled data sets in the layouts they come in: where the cases are and what they say they hold.

Three layouts are read, told apart by their files: the Medical Segmentation Decathlon's
(``dataset.json`` with a list ``training``), nnU-Net's (``dataset.json`` with ``channel_names`` and
``labels`` as name → value) and our own (``index.json``, see :mod:`nestseg_prep.cohort`).
Nothing is read of the images here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from nestseg_prep.errors import InputError
from nestseg_prep.reading import SUFFIXES

SPLITS: Final = ("train", "val", "test")
_MR_NAMES: Final = ("mr", "t1", "t2", "pd", "flair", "adc", "dwi", "swi")
_NNUNET_CHANNEL: Final = "_0000"

Modality: TypeAlias = Literal["CT", "MR", "PT", "US"]


@dataclass(frozen=True)
class LabelledCase:
    """One image with its label map.

    Attributes:
        name: the image's file name without its suffix.
        image: its path, absolute.
        label: likewise.
    """

    name: str
    image: Path
    label: Path


@dataclass(frozen=True)
class DataSet:
    """What the files of a data set say about it.

    Attributes:
        name: as given, or the folder's.
        source: the file that says all this: ``dataset.json`` or ``index.json``.
        description: as given, or empty.
        licence: as given, or empty.
        modality: DICOM's word for it; ``None`` where the data set does not say.
        labels: value → name, the background among them; ``None`` where the data set does not say.
        cases: every labelled case, in the order of their names.
        split: name of a split → names of its cases; ``None`` where the data set has none.
    """

    name: str
    source: str
    description: str
    licence: str
    modality: Modality | None
    labels: dict[int, str] | None
    cases: tuple[LabelledCase, ...]
    split: dict[str, tuple[str, ...]] | None = None


def read_dataset(folder: Path) -> DataSet:
    """Find out the layout of a data set and read its index.

    Args:
        folder: holds ``dataset.json`` or ``index.json``.

    Raises:
        InputError: no known layout; an index that cannot be read, or says what we do not support:
            several input channels, labels with gaps, regions, or an ignore label.
    """
    folder = folder.absolute()
    if (folder / "dataset.json").is_file():
        index = _read_json(folder / "dataset.json")
        return _nnunet(folder, index) if "channel_names" in index else _decathlon(folder, index)
    if (folder / "index.json").is_file():
        return _ours(folder, _read_json(folder / "index.json"))
    raise InputError(
        f"{folder}: no data set; expected dataset.json (Decathlon or nnU-Net) or index.json there"
    )


def _decathlon(folder: Path, index: dict[str, Any]) -> DataSet:
    try:
        pairs = [(str(item["image"]), str(item["label"])) for item in index["training"]]
        channels = _mapping(index["modality"])
        labels = _mapping(index["labels"])
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{folder / 'dataset.json'}: not a Decathlon index ({_said(error)}); it needs "
            "`modality`, `labels` and `training`, a list of image and label"
        ) from error
    cases = [_case(folder, image, label) for image, label in pairs]
    return _data_set(folder, "dataset.json", index, channels, _labels(labels, folder), cases)


def _nnunet(folder: Path, index: dict[str, Any]) -> DataSet:
    source = folder / "dataset.json"
    try:
        ending = str(index["file_ending"])
        channels = _mapping(index["channel_names"])
        labels = _mapping(index["labels"])
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{source}: not an nnU-Net index ({_said(error)}); it needs `channel_names`, "
            "`labels` and `file_ending`"
        ) from error
    if ending not in SUFFIXES:
        raise InputError(f"{source}: images in {ending}; convert them to .nii.gz")
    if "ignore" in labels:
        raise InputError(f"{source}: an `ignore` label is not supported; give it a class")
    by_value = {value: name for name, value in labels.items() if not isinstance(value, list)}
    if len(by_value) < len(labels):
        raise InputError(f"{source}: regions (lists of labels) are not supported; list labels")
    images = sorted((folder / "imagesTr").glob(f"*{_NNUNET_CHANNEL}{ending}"))
    cases = [
        _case(
            folder,
            f"imagesTr/{path.name}",
            f"labelsTr/{path.name.removesuffix(_NNUNET_CHANNEL + ending)}{ending}",
        )
        for path in images
    ]
    return _data_set(folder, "dataset.json", index, channels, _labels(by_value, folder), cases)


def _ours(folder: Path, index: dict[str, Any]) -> DataSet:
    source = folder / "index.json"
    try:
        split = {name: tuple(map(str, index["split"][name])) for name in SPLITS}
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{source}: no lists of cases under split/train, val and test; write one file name "
            "a case"
        ) from error
    files = [name for names in split.values() for name in names]
    cases = [_case(folder, f"images/{name}", f"labels/{name}") for name in files]
    declared = index.get("labels", index.get("label"))
    labels = _labels(declared, folder) if isinstance(declared, dict) else None
    channels = {"0": index["modality"]} if "modality" in index else {}
    split = {name: tuple(map(_stem, names)) for name, names in split.items()}
    return _data_set(folder, "index.json", index, channels, labels, cases, split)


def _data_set(
    folder: Path,
    source: str,
    index: dict[str, Any],
    channels: Mapping[str, Any],
    labels: dict[int, str] | None,
    cases: list[LabelledCase],
    split: dict[str, tuple[str, ...]] | None = None,
) -> DataSet:
    if len(channels) > 1:
        names = ", ".join(map(str, channels.values()))
        raise InputError(
            f"{folder / source}: {len(channels)} input channels ({names}); one is supported: "
            "make a data set of one of them"
        )
    if not cases:
        raise InputError(f"{folder / source}: no labelled case; check the folder of the images")
    if len({case.name for case in cases}) < len(cases):
        raise InputError(f"{folder / source}: two cases of one name; rename one")
    return DataSet(
        name=str(index.get("name") or folder.name),
        source=source,
        description=_one_line(index.get("description") or index.get("note")),
        licence=_one_line(index.get("licence") or index.get("license")),
        modality=_modality(str(next(iter(channels.values()), ""))),
        labels=labels,
        cases=tuple(sorted(cases, key=lambda case: case.name)),
        split=split,
    )


def _labels(declared: Mapping[Any, Any], folder: Path) -> dict[int, str]:
    """Value → name, rising.

    Raises:
        InputError: a value that is no number, a gap between them, or fewer than two.
    """
    try:
        labels = {int(value): str(name) for value, name in declared.items()}
    except (TypeError, ValueError) as error:
        raise InputError(f"{folder}: a label's value is no whole number ({error})") from error
    if len(labels) < 2 or sorted(labels) != list(range(len(labels))):
        values = ", ".join(map(str, sorted(labels)))
        raise InputError(
            f"{folder}: labels {values}; they must run 0 (background), 1, 2, … without a gap: "
            "renumber them in the label maps and in the index"
        )
    return dict(sorted(labels.items()))


def _modality(name: str) -> Modality | None:
    """DICOM's word for a channel's name; ``None`` rather than a guess."""
    lower = name.lower()
    if lower == "ct":
        return "CT"
    if lower in {"pet", "pt"}:
        return "PT"
    if lower in {"us", "ultrasound"}:
        return "US"
    return "MR" if lower.startswith(_MR_NAMES) else None


def _case(folder: Path, image: str, label: str) -> LabelledCase:
    return LabelledCase(_stem(Path(image).name), folder / image, folder / label)


def _stem(file: str) -> str:
    stem = next((file.removesuffix(e) for e in SUFFIXES if file.endswith(e)), file)
    return stem.removesuffix(_NNUNET_CHANNEL)


def _mapping(item: Any) -> dict[str, Any]:
    """A mapping as it is; the text or list that some data sets have instead, numbered."""
    if isinstance(item, dict):
        return dict(item)
    return {
        str(number): name for number, name in enumerate([item] if isinstance(item, str) else item)
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({_said(error)}); mend it") from error
    if not isinstance(index, dict):
        raise InputError(f"{path}: holds no JSON object; mend it")
    return index


def _one_line(text: Any) -> str:
    return " ".join(str(text).split()) if text else ""


def _said(error: BaseException) -> str:
    return f"no {error}" if isinstance(error, KeyError) else type(error).__name__
