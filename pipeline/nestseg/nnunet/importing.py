"""A trained model of nnU-Net v2 → a bundle that predicts the same voxels."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

import torch
from monai.bundle import ConfigParser
from torch import Tensor

from nestseg.bundle import archive, locate, recipe, trust
from nestseg.bundle.info import WEIGHTS
from nestseg.bundle.new import check_out, plain_text
from nestseg.nnunet.model_folder import NnUNetModel, find_models, read_model
from nestseg.nnunet.transforms import Orientation
from nestseg.outputs.dicom.terminology import concept_of
from nestseg_prep.errors import InputError, OutputError

_PARTS: Final = ("select_inputs", "inference")
_PAPER: Final = "Isensee et al. 2021, nnU-Net, Nature Methods 18, doi 10.1038/s41592-020-01008-z"
_MODALITIES: Final = {
    "CT": r"\bCT|cbct|tomograph|hounsfield",
    "PT": r"\bPET|\bSUV|\bPT\b",
    "MR": r"\bMR|\bT1|\bT2|flair|\bADC|\bDWI|magnet|dixon|contrast",
}


@dataclass(frozen=True)
class ImportOptions:
    """What is known of a model besides its folder.

    Attributes:
        folds: to take; empty for all.
        checkpoint: ``"final"`` or ``"best"``.
        modality: DICOM modality of the images; ``""`` to guess it.
        labels: JSON file: value → name, or ``{"name": …}`` with the codes of ``segment_codes``.
        orientation: how the training files lay; ``None`` if nothing is known beyond the plans.
        any_trainer: whether trainers are taken that nestseg does not know.
    """

    folds: tuple[str, ...] = ()
    checkpoint: str = "final"
    modality: str = ""
    labels: Path | None = None
    orientation: Orientation | None = None
    any_trainer: bool = False


@dataclass(frozen=True)
class Imported:
    """What was made.

    Attributes:
        model: that was read.
        orientation: of its training files.
        assumed: whether nothing said so.
        modalities: that the bundle takes.
    """

    model: NnUNetModel
    orientation: Orientation
    assumed: bool
    modalities: tuple[str, ...]


def import_model(source: Path, out: Path, options: ImportOptions | None = None) -> Imported:
    """Make a bundle of a results folder, and trust it here: its code is nestseg's own.

    Args:
        source: the folder ``Trainer__Plans__configuration``, one that holds it, or the zip file of
            ``nnUNetv2_export_model_to_zip``.
        out: folder of the bundle; must not exist. Nothing is left of it if this fails.
        options: what else is known, and what to take.

    Raises:
        InputError: the model or a file cannot be used, or ``out`` is taken.
        OutputError: ``out`` cannot be written.
    """
    options = options or ImportOptions()
    check_out(out, source)
    with archive.opened(source) as opened:
        folder = _only_model(opened, source)
        model = read_model(
            folder, options.folds, options.checkpoint, any_trainer=options.any_trainer
        )
    known = model.orientation or options.orientation
    made = Imported(
        model,
        options.orientation or model.orientation or "file",  # type: ignore[arg-type]
        not known,
        (options.modality,) if options.modality else _modalities(model),
    )
    names, codes = _labels(model, options.labels)
    temporary = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        (temporary / "configs").mkdir(parents=True)
        (temporary / "docs").mkdir()
        (temporary / WEIGHTS).parent.mkdir()
        _write(made, temporary, out.name, names, codes)
        temporary.rename(out)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror}); choose another") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    trust.remember(out)
    return made


def _only_model(opened: Path, source: Path) -> Path:
    found = find_models(opened)
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(
            f"{source}: no model of nnU-Net v2 (a folder with plans.json and "
            "fold_*/checkpoint_final.pth); check the path"
        )
    listed = ", ".join(str(path.relative_to(opened)) for path in found)
    raise InputError(f"{source}: several models ({listed}); unpack it and give one of them")


def _write(
    made: Imported,
    folder: Path,
    name: str,
    names: Mapping[int, str],
    codes: Mapping[str, Any],
) -> None:
    configs = folder / "configs"
    config, metadata = _config(made), _metadata(made, names, codes)
    (configs / "inference.json").write_text(_json(config), encoding="utf-8")
    (configs / "metadata.json").write_text(_json(metadata), encoding="utf-8")
    shutil.copyfile(locate.home() / recipe.PARTS / "logging.conf", configs / "logging.conf")
    torch.save(_weights(made.model), folder / WEIGHTS)
    licence = plain_text(str(made.model.dataset.get("licence", "")), "")
    terms = licence or "not stated: ask who trained the model before you pass it on"
    (folder / "LICENSE").write_text(f"Weights of {metadata['name']}: {terms}.\n", encoding="utf-8")
    (folder / "docs" / "data_license.txt").write_text(f"Training data: {terms}.\n", "utf-8")
    (folder / "docs" / "README.md").write_text(_card(made, name, metadata), encoding="utf-8")


def _weights(model: NnUNetModel) -> dict[str, Tensor]:
    """The state dict of the network in the bundle's config."""
    several = len(model.checkpoints) > 1
    state = {
        f"folds.{number}.{name}" if several else name: value
        for number, checkpoint in enumerate(model.checkpoints)
        for name, value in checkpoint.weights.items()
    }
    if model.previous is None:
        return state
    first = {f"first.{name}": value for name, value in _weights(model.previous).items()}
    return first | {f"second.{name}": value for name, value in state.items()}


def _config(made: Imported) -> dict[str, Any]:
    """The inference config: fragments that all bundles share, and what the model adds."""
    model = made.model
    parts = [_part(name) for name in _PARTS]
    saving = parts[-1]["postprocessing"]["transforms"][1:]  # labels come out of the inferer
    *_, saver = saving
    if max(model.labels) > 255:
        saver["output_dtype"] = "$np.uint16"
    if model.rules:
        rules = [list(rule) for rule in model.rules]
        keep = {
            "_target_": "nestseg.nnunet.KeepLargestComponentsd", "keys": "pred", "groups": rules
        }  # fmt: skip
        saving.insert(1, keep)
    override: dict[str, Any] = {
        "imports": ["$import torch"],
        "network_def": _network(model),
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network": "$@network_def.to(@device)",
        "orientation": made.orientation,
        "step": 0.5,
        "mirror_axes": list(model.checkpoints[0].mirror_axes),
        "inferer": _inferer(model, "@mirror_axes"),
        "selection#modalities": list(made.modalities),
        "load": [
            {"_target_": "nestseg_prep.transforms.LoadVolumed", "keys": "image"},
            *_first_stage(model),
        ],
        "prepare": [_preprocessing(model)],
        "preprocessing#transforms": "$@hide_path + @load + @prepare",
        "postprocessing#transforms": saving,
    }
    if (count := len(model.channels)) > 1:
        override["imports"].append("$from nestseg_prep.cohort import channel_cases")
        listed: str = parts[-1]["dataset"]["data"]
        listed = listed.replace("inputs", "channel_cases").replace("@selection", str(count))
        override["dataset#data"] = listed
    return recipe.compose([*parts, override])


def _network(model: NnUNetModel) -> dict[str, Any]:
    channels = len(model.channels)
    if model.previous is not None:
        channels += len(model.foreground)
    network = model.network_def(channels)
    if len(model.checkpoints) > 1:
        count = len(model.checkpoints)
        network = {"_target_": "nestseg.nnunet.Folds", "network": network, "count": count}
    if model.previous is not None:
        first = _network(model.previous)
        network = {"_target_": "nestseg.nnunet.Cascade", "first": first, "second": network}
    return network


def _inferer(model: NnUNetModel, mirror_axes: Any) -> dict[str, Any]:
    found = {
        "_target_": "nestseg.nnunet.NnUNetInferer",
        "patch_size": model.configuration["patch_size"],
        "resampling": model.resampling("probabilities"),
        "step": "@step",
        "mirror_axes": mirror_axes,
    }
    return found if model.regions is None else found | {"regions": model.regions}


def _preprocessing(model: NnUNetModel) -> dict[str, Any]:
    found = {
        "_target_": "nestseg.nnunet.NnUNetPreprocessd",
        "keys": "image",
        "spacing": model.configuration["spacing"],
        "transpose": model.plans["transpose_forward"],
        "normalization": model.normalization,
        "resampling": model.resampling("data"),
        "orientation": "@orientation",
    }
    if model.previous is not None:
        found |= {
            "previous": "first_stage",
            "previous_labels": model.foreground,
            "previous_resampling": model.resampling("seg"),
        }
    return found


def _first_stage(model: NnUNetModel) -> list[dict[str, Any]]:
    first = model.previous
    if first is None:
        return []
    return [
        {
            "_target_": "nestseg.nnunet.FirstStaged",
            "keys": "image",
            "network": "$@network.first",
            "preprocessing": _preprocessing(first),
            "inferer": _inferer(first, list(first.checkpoints[0].mirror_axes)),
        }
    ]


def _metadata(made: Imported, names: Mapping[int, str], codes: Mapping[str, Any]) -> dict[str, Any]:
    model = made.model
    title = plain_text(
        str(model.dataset.get("name") or model.plans["dataset_name"]), "nnU-Net model"
    )
    listed = ", ".join(f"{value} is {name}" for value, name in names.items())
    network = model.network_def(1)
    periods = [prod(along) for along in zip(*network["strides"], strict=True)]
    sizes = [f"{n * (2 if axis == 0 else 1)}*n" for axis, n in enumerate(periods)]
    inputs = [plain_text(name, f"channel {k}") for k, name in enumerate(model.channels)]
    if model.previous is not None:
        inputs += [f"first stage: {names.get(value, value)}" for value in model.foreground]
    outputs = list(names.values())
    if model.regions is not None:
        outputs = [plain_text(name, f"region {k}") for k, name in enumerate(model.outputs)]
    one = model.checkpoints[0]
    pred = {
        "type": "image",
        "format": "segmentation",
        "num_channels": len(outputs),
        "spatial_shape": sizes,
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": True,
        "channel_def": {str(k): name for k, name in enumerate(outputs)},
    }
    if model.regions is not None:
        pred["label_def"] = {str(value): name for value, name in names.items()}
    image = {
        "type": "image",
        "format": "hounsfield" if made.modalities == ("CT",) else "magnitude",
        "modality": " or ".join(made.modalities),
        "num_channels": len(inputs),
        "spatial_shape": sizes,
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": True,
        "channel_def": {str(k): name for k, name in enumerate(inputs)},
    }
    described = plain_text(str(model.dataset.get("description", "")), "")
    override: dict[str, Any] = {
        "version": "0.1.0",
        "changelog": {"0.1.0": "Imported from nnU-Net."},
        "name": title,
        "task": f"Segmentation of {', '.join(list(names.values())[1:4])}",
        "description": described or f"A model of nnU-Net v2: {title}",
        "intended_use": "Research. Not a medical device; not for diagnosis or treatment.",
        "authors": "not stated",
        "copyright": plain_text(str(model.dataset.get("licence", "")), "") or "not stated",
        "data_source": plain_text(str(model.dataset.get("reference", "")), "") or title,
        "image_classes": ", ".join(inputs[: len(model.channels)]),
        "label_classes": listed,
        "pred_classes": listed,
        "references": [_PAPER],
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": pred}},
        "nnunet": {
            "dataset": plain_text(str(model.plans["dataset_name"]), "not stated"),
            "plans": plain_text(str(model.plans["plans_name"]), "not stated"),
            "configuration": one.configuration,
            "trainer": one.trainer,
            "orientation": made.orientation,
            "checkpoints": {c.fold: c.sha256 for c in model.checkpoints},
        },
    }
    composed = recipe.compose([_part("metadata"), override])
    return composed | {"segment_codes": dict(codes)} if codes else composed


def _labels(model: NnUNetModel, path: Path | None) -> tuple[dict[int, str], dict[str, Any]]:
    """Value → name, the background first; and codes by name.

    Raises:
        InputError: the file cannot be used.
    """
    names = {v: plain_text(n, f"label {v}") for v, n in sorted(model.labels.items())}
    names[0] = "background"
    if path is None:
        return names, {}
    codes = {}
    try:
        for key, entry in json.loads(path.read_text(encoding="utf-8")).items():
            fields = {"name": entry} if isinstance(entry, str) else dict(entry)
            value, name = int(key), plain_text(fields.pop("name"), f"label {key}")
            if value not in names or value == 0:
                raise ValueError(f"the model has no label {key}")
            names[value] = name
            if fields:
                concept_of(name, {name: fields})
                codes[name] = fields
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f'{path}: cannot be used ({error}); write {{"1": "liver", …}}, or {{"1": {{"name": '
            '"liver", "category": …, "type": …}}}}'
        ) from error
    return names, codes


def _modalities(model: NnUNetModel) -> tuple[str, ...]:
    """What the first channel's name and normalisation tell; CT and MR if they tell nothing."""
    if model.normalization[0]["scheme"] == "CTNormalization":
        return ("CT",)
    name = model.channels[0].replace("_", " ")
    found = [key for key, words in _MODALITIES.items() if re.search(words, name, re.IGNORECASE)]
    return (found[0],) if found else ("CT", "MR")


def _part(name: str) -> dict[str, Any]:
    path = locate.home() / recipe.PARTS / f"{name}.yaml"
    part: dict[str, Any] = ConfigParser.load_config_file(path)
    return part


def _json(value: Any) -> str:
    return json.dumps(value, indent=4, ensure_ascii=False) + "\n"


def _card(made: Imported, name: str, metadata: Mapping[str, Any]) -> str:
    model = made.model
    facts = metadata["nnunet"]
    folds = ", ".join(facts["checkpoints"])
    axes = len(model.checkpoints[0].mirror_axes)
    passes = 2**axes * len(model.checkpoints)
    return f"""# {name}

{metadata["description"]}. **Research only: not a medical device.**

## Use

```
nestseg segment FOLDER --bundle {name} --out OUT
python -m monai.bundle run --config_file configs/inference.json --bundle_root . --dataset_dir IN
```

Labels: {metadata["label_classes"]}.

## Network and training

Trained with nnU-Net v2 by `{facts["trainer"]}`: data set {facts["dataset"]}, plans
{facts["plans"]}, configuration {facts["configuration"]}, folds {folds}. Made by
`nestseg bundle import`; `metadata.json` holds the SHA-256 of each checkpoint.

Each tile is computed {passes} times: {len(model.checkpoints)} folds, mirrored along {axes} axes.

## Figures

Not known here: ask whoever trained the model.

## Data

{metadata["data_source"]}. Voxels of the training files lay in the order `{made.orientation}`.

## System configuration

As nestseg; no part of nnU-Net is needed.

## Limitations

Those of the model. Images should be of the kind that it was trained on.

## References

{metadata["references"][0]}
"""
