"""A bundle's own training on new cases, and the choice between its weights and the new ones."""

from __future__ import annotations

import datetime
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from monai.bundle import ConfigWorkflow
from monai.metrics import compute_dice
from monai.networks.utils import one_hot

from nestseg.bundle.built import BundleConfig
from nestseg.bundle.bundle import Bundle, load_bundle
from nestseg.label.cases import Labelled
from nestseg.label.models import digest
from nestseg.label.work import WEIGHTS
from nestseg.pruning.candidates import forget_uncertainty
from nestseg_prep.disk import sync_folder
from nestseg_prep.errors import InputError
from nestseg_prep.nifti import read_nifti

HISTORY: Final = "models/label_training.json"
_PREVIOUS: Final = "models/previous"
_ADOPTED: Final = ("configs", "scripts", "docs")


class Options(NamedTuple):
    """What a person may set.

    Attributes:
        epochs: of the training.
        early_stop: validations without a better score that end it; 0: never.
        from_scratch: begin without the present weights.
    """

    epochs: int
    early_stop: int
    from_scratch: bool


def train(
    bundle: Path,
    training: Sequence[Labelled],
    validation: Sequence[Labelled],
    options: Options,
    folder: Path,
) -> Path:
    """Train a copy of a bundle by its own train config, from its weights.

    Args:
        bundle: its working copy, which is left alone.
        training: cases that are learned.
        validation: cases by which the epoch is chosen.
        options: see there.
        folder: for the copy and all that the training writes; made here.

    Returns:
        The folder of the copy, with the new weights.

    Raises:
        InputError: the bundle's config cannot be used, or no epoch gave weights.
    """
    copy = folder / bundle.name
    copy.mkdir(parents=True)
    for name in _ADOPTED:
        if (bundle / name).is_dir():
            shutil.copytree(bundle / name, copy / name)
    (copy / "models").mkdir()
    start = bundle / WEIGHTS
    go_on = start.is_file() and not options.from_scratch
    changes: dict[str, Any] = {
        "bundle_root": str(copy),
        "output_dir": str(folder / "log"),
        "epochs": options.epochs,
        "early_stop": options.early_stop,
        "finetune": go_on,
        "finetune_path": str(start),
        "best_name": Path(WEIGHTS).name,
        "train#dataset#data": [case.item for case in training],
        "validate#dataset#data": [case.item for case in validation],
    }
    raw = BundleConfig(bundle, "train.json")
    if raw.raw("target") is not None:
        changes["target"] = []  # labels that are drawn here hold the classes themselves
    lacking = [name for name in ("epochs", "finetune", "train#dataset") if raw.raw(name) is None]
    if lacking:
        raise InputError(f"{bundle.name}: train.json has no `{lacking[0]}` that could be set")
    configs = copy / "configs"
    workflow = ConfigWorkflow(
        config_file=str(configs / "train.json"),
        meta_file=str(configs / "metadata.json"),
        logging_file=None,
        workflow_type="train",
        **changes,
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    if not (copy / WEIGHTS).is_file():
        raise InputError(f"{bundle.name}: the training gave no weights; label more images")
    return copy


def mean_dice(bundle: Bundle, cases: Sequence[Labelled]) -> float:
    """Mean Dice over the labels of each case, then over the cases, on the images' own voxels.

    A label that a case does not hold does not count in it; a case without any label counts 1 where
    the mask is empty too, and 0 elsewhere.
    """
    classes = max(bundle.info.labels)
    scores = []
    for case in cases:
        truth = np.asarray(read_nifti(case.label).array, dtype=np.int64)
        mask = np.asarray(bundle.predict(read_nifti(case.image)).mask.array, dtype=np.int64)
        if not truth.any():
            scores.append(float(not mask.any()))
            continue
        pred, true = (one_hot(torch.from_numpy(a)[None, None], classes + 1) for a in (mask, truth))
        scores.append(float(compute_dice(pred, true, include_background=False).nanmean()))
    return float(np.mean(scores))


def publish_if_not_worse(
    bundle: Path,
    trained: Path,
    validation: Sequence[Labelled],
    *,
    caged: bool,
) -> dict[str, Any]:
    """Put new weights in the place of a bundle's, unless they are worse on the same cases.

    The weights that were there are kept below ``models/previous``.

    Args:
        bundle: its working copy.
        trained: a copy with the new weights.
        validation: cases to compare by.
        caged: whether the bundle's code runs in cages.

    Returns:
        ``published``, ``dice`` and ``dice_before`` (``None`` where there were no weights), and the
        digests of both weights.
    """
    after = mean_dice(load_bundle(trained, caged=caged), validation)
    before = None
    if (bundle / WEIGHTS).is_file():
        before = mean_dice(load_bundle(bundle, caged=caged), validation)
    better = bool(np.isfinite(after)) and (before is None or after >= before)
    result = {
        "published": better,
        "dice": round(after, 6),
        "dice_before": None if before is None else round(before, 6),
        "weights": digest(trained),
        "weights_before": None if before is None else digest(bundle),
    }
    if better:
        _replace(bundle, trained)
    return result


def _replace(bundle: Path, trained: Path) -> None:
    weights = bundle / WEIGHTS
    weights.parent.mkdir(exist_ok=True)
    if weights.is_file():
        now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S")
        kept = bundle / _PREVIOUS / f"{now}_{digest(bundle)[:16]}.pt"
        kept.parent.mkdir(exist_ok=True)
        shutil.copy2(weights, kept)
    new = weights.with_name(f".{weights.name}.new")
    shutil.copyfile(trained / WEIGHTS, new)
    with new.open("rb") as file:
        os.fsync(file.fileno())
    forget_uncertainty(bundle)  # before the weights: at worst a bundle says less than it could
    new.replace(weights)
    sync_folder(weights.parent)


def remember(bundle: Path, result: dict[str, Any]) -> None:
    """Add the outcome of a training to the bundle's history."""
    path = bundle / HISTORY
    path.parent.mkdir(exist_ok=True)
    text = json.dumps([*history(bundle), result], indent=2) + "\n"
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.replace(path)


def history(bundle: Path) -> list[dict[str, Any]]:
    """Outcomes of the trainings of a bundle, the newest last."""
    try:
        return list(json.loads((bundle / HISTORY).read_text()))
    except (OSError, ValueError):
        return []
