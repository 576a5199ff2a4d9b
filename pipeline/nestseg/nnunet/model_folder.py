"""A trained model of nnU-Net v2, read from its results folder as data: nothing is unpickled."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from nestseg.bundle import manifest
from nestseg.networks.nnunet import without_aliases
from nestseg.nnunet.transforms import SCHEMES
from nestseg_prep.errors import InputError

_SCALAR: Final = type(np.float64(0)).__reduce__(np.float64(0))[0]  # as pickles name it
_SAFE: Final[list[Any]] = [
    _SCALAR,
    (_SCALAR, "numpy.core.multiarray.scalar"),  # NumPy 1
    *(np.dtype, np.dtypes.Float64DType, np.dtypes.Float32DType, np.dtypes.Int64DType),
]
"""What checkpoints hold besides tensors: the best score so far."""
_DEEPEST: Final = 3  # folders between what is given and the model
_TRAINER: Final = re.compile(
    r"nnUNetTrainer(?:_?(?:\d+epochs?|\d+ep|NoMirroring|onlyMirror01|NoDA|DA5(?:Seg)?(?:ord0)?|"
    r"DASegOrd0|DAOrd0|noDummy2DDA|NoDeepSupervision|BN|warmup|CosAnneal|(?:Vanilla)?Adam|Adan|"
    r"\den\d|DiceLoss|CELoss|DiceCELoss|noSmooth|Topk10Loss|DiceTopK10Loss|LS01|"
    r"probabilisticOversampling|0\d\d|Benchmark|noDataLoading))*"
)
"""Trainers of nnU-Net and TotalSegmentator whose network is that of the plans."""
_MALFORMED: Final = (KeyError, TypeError, ValueError, AttributeError, IndexError)
_READERS: Final = {
    "SimpleITKIO": "",
    "NibabelIO": "",
    "SimpleITKIOWithReorient": "RAS",
    "NibabelIOWithReorient": "RAS",
}
_NORMS: Final = {"InstanceNorm": "instance", "BatchNorm": "batch"}
_ACTS: Final = {
    "LeakyReLU": "leakyrelu",
    "ReLU": "relu",
    "PReLU": "prelu",
    "GELU": "gelu",
    "SiLU": "swish",
}
_KNOWN_ARGUMENTS: Final = {
    *("n_stages", "features_per_stage", "conv_op", "kernel_sizes", "strides", "conv_bias"),
    *("n_conv_per_stage", "n_blocks_per_stage", "n_conv_per_stage_decoder", "stem_channels"),
    *("norm_op", "norm_op_kwargs", "dropout_op", "dropout_op_kwargs", "nonlin", "nonlin_kwargs"),
    *("nonlin_first", "deep_supervision"),
}


@dataclass(frozen=True)
class Checkpoint:
    """The file of one fold.

    Attributes:
        fold: ``"0"``, or ``"all"``.
        sha256: of the file.
        trainer: name of the class that trained it.
        configuration: of the plans.
        mirror_axes: along which tiles may be mirrored.
        weights: each tensor under one name.
    """

    fold: str
    sha256: str
    trainer: str
    configuration: str
    mirror_axes: tuple[int, ...]
    weights: dict[str, Tensor] = field(repr=False)


@dataclass(frozen=True)
class NnUNetModel:
    """What a results folder says.

    Attributes:
        dataset: ``dataset.json``.
        plans: ``plans.json``.
        configuration: the one that was trained, with what it inherits.
        checkpoints: one a fold.
        previous: the first stage of a cascade.
        rules: labels of which together the largest piece is kept, one rule after the other.
    """

    dataset: dict[str, Any]
    plans: dict[str, Any]
    configuration: dict[str, Any]
    checkpoints: tuple[Checkpoint, ...]
    previous: NnUNetModel | None = None
    rules: tuple[tuple[int, ...], ...] = ()

    @property
    def channels(self) -> list[str]:
        """Names of the input channels."""
        named = self.dataset.get("channel_names") or self.dataset["modality"]
        return [str(named[key]) for key in sorted(named, key=int)]

    @property
    def regions(self) -> list[int] | None:
        """Label of each output channel, where channels are regions that overlap."""
        several = any(isinstance(one, list) and len(one) > 1 for one in self._declared.values())
        return list(map(int, self.dataset["regions_class_order"])) if several else None

    @property
    def labels(self) -> dict[int, str]:
        """Value in the mask → name, the background included.

        A region that later ones paint over is named as what is left of it.
        """
        if self.regions is None:
            return {_only(value): name for name, value in self._declared.items()}
        found = {0: "background"}
        for number, (value, name) in enumerate(zip(self.regions, self._regions, strict=True)):
            later = [
                one for one in self._regions[number + 1 :] if self._inside(name) & self._inside(one)
            ]
            found[value] = f"{name} without {' and '.join(later)}" if later else name
        return found

    @property
    def outputs(self) -> list[str]:
        """Names of the output channels."""
        return list(self.labels.values()) if self.regions is None else self._regions

    @property
    def foreground(self) -> list[int]:
        """All single labels, without background and ignored voxels."""
        values = {int(v) for one in self._declared.values() for v in np.atleast_1d(one)}
        return sorted(values - {0})

    @property
    def orientation(self) -> str:
        """How the training files were turned; ``""`` if they were taken as they lay."""
        return _READERS[self.plans["image_reader_writer"]]

    @property
    def normalization(self) -> list[dict[str, Any]]:
        """Of each channel, as :class:`nestseg.nnunet.NnUNetPreprocessd` takes it."""
        properties = self.plans.get(
            "foreground_intensity_properties_per_channel"
        ) or self.plans.get("foreground_intensity_properties_by_modality")
        masked = self.configuration["use_mask_for_norm"]
        found = []
        for number, scheme in enumerate(self.configuration["normalization_schemes"]):
            entry: dict[str, Any] = {"scheme": scheme}
            if scheme == "CTNormalization":
                of = (properties or {})[str(number)]
                entry |= {"mean": of["mean"], "std": of["std"]}
                entry |= {"low": of["percentile_00_5"], "high": of["percentile_99_5"]}
            elif scheme == "ZScoreNormalization" and masked[number]:
                entry["masked"] = True
            found.append(entry)
        return found

    def resampling(self, what: str) -> dict[str, Any]:
        """How ``data``, ``seg`` or ``probabilities`` are resampled, as a bundle's config names it.

        Raises:
            InputError: a function or an argument that nestseg does not know.
        """
        name = self.configuration[f"resampling_fn_{what}"]
        given = dict(self.configuration[f"resampling_fn_{what}_kwargs"])
        libraries = {
            "resample_data_or_seg_to_shape": "scipy",
            "resample_torch_fornnunet": "torch",
            "no_resampling_hack": "none",
            "no_resampling_data_or_seg_to_shape": "none",
        }
        library = libraries.get(name)
        separate = given.pop("force_separate_z", None if library == "torch" else False)
        order, order_z = given.pop("order", 3), given.pop("order_z", 0)
        usual = {
            "is_seg": what == "seg",
            "separate_z_anisotropy_threshold": 3,
            "mode": "linear",
            "aniso_axis_mode": "nearest-exact",
        }
        of_speed = {"num_threads", "memefficient_seg_resampling", "device"}
        odd = {
            key: value
            for key, value in given.items()
            if key not in of_speed and usual.get(key) != value
        }
        if library is None or odd or (what == "probabilities" and order > 1 and library == "scipy"):
            raise InputError(
                f"plans.json: resampling by {name} with {given | {'order': order}} is not known; "
                "predict with nnU-Net itself"
            )
        if library == "torch":
            order, order_z = 1, 0
        return {
            "_target_": "nestseg.nnunet.Resampling",
            "library": library,
            "order": order,
            "order_z": order_z,
            "separate_z": separate,
        }

    def network_def(self, in_channels: int) -> dict[str, Any]:
        """The network of one fold, as a bundle's config names it.

        Raises:
            InputError: an architecture or a part of it that nestseg does not have.
        """
        name, given = _architecture(self.configuration)
        plain = name == "PlainConvUNet"
        if name not in ("PlainConvUNet", "ResidualEncoderUNet"):
            raise InputError(f"plans.json: no network {name}; predict with nnU-Net itself")
        if unknown := set(given) - _KNOWN_ARGUMENTS:
            raise InputError(f"plans.json: {name} with {min(unknown)}; predict with nnU-Net itself")
        dims, depth = len(self.configuration["patch_size"]), int(given["n_stages"])
        bn = any(re.search(r"(?<![A-Z])BN(?![a-z])", one.trainer) for one in self.checkpoints)
        norm = "torch.nn.BatchNorm" if bn else given.get("norm_op")
        dropout = (given.get("dropout_op_kwargs") or {}).get("p", 0.0)
        found: dict[str, Any] = {
            "_target_": f"nestseg.networks.{name}",
            "spatial_dims": dims,
            "in_channels": in_channels,
            "out_channels": len(self.outputs),
            "features": _each(given["features_per_stage"], depth),
            "strides": _per_axis(given["strides"], depth, dims),
            "kernels": _per_axis(given["kernel_sizes"], depth, dims),
            ("convs" if plain else "blocks"): _each(
                given["n_conv_per_stage" if plain else "n_blocks_per_stage"], depth
            ),
            "decoder_convs": _each(given["n_conv_per_stage_decoder"], depth - 1),
            "bias": bool(given.get("conv_bias", False)),
            "norm": _named(norm, given.get("norm_op_kwargs"), _NORMS),
            "act": _named(given.get("nonlin"), given.get("nonlin_kwargs"), _ACTS),
        }
        if given.get("dropout_op"):
            found["dropout"] = dropout
        if given.get("nonlin_first"):
            found["act_first"] = True
        if given.get("stem_channels"):
            found["stem_channels"] = given["stem_channels"]
        return found

    @property
    def _declared(self) -> dict[str, Any]:
        return {k: v for k, v in self.dataset["labels"].items() if k != "ignore"}

    def _inside(self, region: str) -> set[int]:
        return set(map(int, np.atleast_1d(self._declared[region])))

    @property
    def _regions(self) -> list[str]:
        return [name for name, value in self._declared.items() if set(np.atleast_1d(value)) != {0}]


def find_models(folder: Path) -> list[Path]:
    """The model folders in a folder, itself included; not those that are a stage of another."""
    found = [folder] if _is_model(folder) else []
    for depth in range(1, _DEEPEST + 1):
        found += [path for path in sorted(folder.glob("/".join("*" * depth))) if _is_model(path)]
    stages = set()
    for path in found:
        try:
            stages.add(_stage_folder(path, _plans(path)))
        except (InputError, *_MALFORMED):  # whoever reads the model says so
            continue
    return [path for path in found if path not in stages]


def read_model(
    folder: Path,
    folds: Sequence[str] = (),
    checkpoint: str = "final",
    *,
    any_trainer: bool = False,
) -> NnUNetModel:
    """Read a results folder ``Trainer__Plans__configuration``.

    Args:
        folder: with ``dataset.json``, ``plans.json`` and ``fold_*``.
        folds: to take; by default all numbered ones, or ``all`` where there is no other.
        checkpoint: ``"final"`` or ``"best"``.
        any_trainer: whether trainers are taken that nestseg does not know.

    Raises:
        InputError: something is missing, damaged, or not known; one line.
    """
    dataset, plans = _json(folder / "dataset.json"), _plans(folder)
    found = [_checkpoint(path) for path in _files(folder, folds, checkpoint)]
    first = found[0]
    if not any_trainer and (one := next((c for c in found if not _is_known(c.trainer)), None)):
        raise InputError(
            f"{folder.name}: trained by {one.trainer}, which may have built another network than "
            "plans.json says; import it with --trust if you know that it did not"
        )
    try:
        configuration = _inherited(plans, first.configuration)
        stage = _stage_folder(folder, plans, first.configuration)
        if stage is not None and not _is_model(stage):
            raise InputError(
                f"{folder.name}: the second stage of a cascade; put the model of the first beside "
                f"it, as {stage.name}"
            )
        previous = stage and read_model(stage, folds, checkpoint, any_trainer=any_trainer)
        rules = _rules(folder, first.fold)
        model = NnUNetModel(
            dataset, plans, configuration, tuple(found), previous or None, tuple(rules)
        )
        _check(model)
    except _MALFORMED as error:
        raise InputError(
            f"{folder.name}: plans.json or dataset.json is not as nnU-Net v2 writes it "
            f"({type(error).__name__}: {error}); copy the folder again"
        ) from error
    return model


def _is_model(path: Path) -> bool:
    return (path / "plans.json").is_file() and any(path.glob("fold_*/checkpoint_*.pth"))


def _is_known(trainer: str) -> bool:
    return _TRAINER.fullmatch(trainer) is not None


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise TypeError("not an object")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give a results folder of nnU-Net v2") from None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({error}); copy it again") from error
    return content


def _plans(folder: Path) -> dict[str, Any]:
    return _json(folder / "plans.json")


def _files(folder: Path, folds: Sequence[str], checkpoint: str) -> list[Path]:
    name = f"checkpoint_{checkpoint}.pth"
    there = {path.parent.name.removeprefix("fold_") for path in folder.glob(f"fold_*/{name}")}
    wanted = list(folds) or sorted((fold for fold in there if fold.isdigit()), key=int)
    wanted = wanted or sorted(there)
    missing = [fold for fold in wanted if fold not in there]
    if missing or not wanted:
        listed = ", ".join(sorted(there)) or "none"
        raise InputError(
            f"{folder.name}: no {name} of fold {missing[0] if missing else 'any'} (there is: "
            f"{listed}); choose by --folds and --checkpoint"
        )
    return [folder / f"fold_{fold}" / name for fold in wanted]


def _checkpoint(path: Path) -> Checkpoint:
    """A checkpoint without unpickling anything but tensors and a few numbers of NumPy."""
    try:
        with torch.serialization.safe_globals(_SAFE):
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        axes = found.get("inference_allowed_mirroring_axes")
        state = {str(k).removeprefix("_orig_mod."): v for k, v in found["network_weights"].items()}
        return Checkpoint(
            path.parent.name.removeprefix("fold_"),
            manifest.digest(path),
            str(found["trainer_name"]),
            str(found["init_args"]["configuration"]),
            tuple(map(int, axes)) if axes is not None else (),
            {name: value.clone() for name, value in without_aliases(state).items()},
        )
    except Exception as error:  # torch raises a dozen kinds for damaged or foreign files
        why = str(error).split("\n", 1)[0][:120]
        raise InputError(
            f"{path.parent.name}/{path.name}: not a checkpoint of nnU-Net v2 that can be read "
            f"without running code ({type(error).__name__}: {why}); copy it again"
        ) from error


def _inherited(plans: Mapping[str, Any], name: str, below: Sequence[str] = ()) -> dict[str, Any]:
    """A configuration with what it inherits."""
    own = dict(plans["configurations"][name])
    parent = own.get("inherits_from")
    if parent is None:
        return own
    if parent in (name, *below):
        raise ValueError(f"configuration {name} inherits from itself")
    return _inherited(plans, parent, (name, *below)) | own


def _stage_folder(
    folder: Path, plans: Mapping[str, Any], configuration: str | None = None
) -> Path | None:
    """The folder beside a model's that holds the stage before it, if it has one."""
    head, _, tail = folder.name.rpartition("__")
    name = configuration or tail
    if name not in plans.get("configurations", {}):
        return None
    previous = _inherited(plans, name).get("previous_stage")
    return folder.with_name(f"{head}__{previous}") if previous else None


def _architecture(configuration: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Class name and arguments of the network; plans before nnU-Net 2.4 spell them otherwise."""
    if "architecture" in configuration:
        of = configuration["architecture"]
        return of["network_class_name"].rpartition(".")[2], dict(of["arch_kwargs"])
    name = configuration["UNet_class_name"]
    convs = configuration["n_conv_per_stage_encoder"]
    base, most = configuration["UNet_base_num_features"], configuration["unet_max_num_features"]
    return name, {
        "n_stages": len(convs),
        "features_per_stage": [min(base * 2**level, most) for level in range(len(convs))],
        "kernel_sizes": configuration["conv_kernel_sizes"],
        "strides": configuration["pool_op_kernel_sizes"],
        ("n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage"): convs,
        "n_conv_per_stage_decoder": configuration["n_conv_per_stage_decoder"],
        "conv_bias": True,
        "norm_op": "torch.nn.InstanceNorm",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


def _named(
    dotted: str | None, arguments: Mapping[str, Any] | None, known: Mapping[str, str]
) -> list[Any] | None:
    """A norm or an activation in MONAI's notation."""
    if dotted is None:
        return None
    name = re.sub(r"[123]d$", "", dotted.rpartition(".")[2])
    if name not in known:
        raise InputError(f"plans.json: a network with {dotted}; predict with nnU-Net itself")
    return [known[name], dict(arguments or {})]


def _each(value: Any, count: int) -> list[int]:
    return [int(one) for one in (value if isinstance(value, list) else [value] * count)]


def _per_axis(value: Any, count: int, dims: int) -> list[list[int]]:
    stages = value if isinstance(value, list) else [value] * count
    return [_each(stage, dims) for stage in stages]


def _only(value: Any) -> int:
    """A label that may be written as a list of one."""
    (one,) = np.atleast_1d(value).tolist()
    return int(one)


def _rules(folder: Path, fold: str) -> list[tuple[int, ...]]:
    """Postprocessing that ``nnUNetv2_find_best_configuration`` left, as its JSON says it.

    Raises:
        InputError: there is a pickle alone, or a rule that nestseg does not know.
    """
    places = [folder, *sorted(folder.glob("crossval_results_folds_*"))]
    for place in places if fold != "all" else places[:1]:
        path = place / "postprocessing.json"
        if path.is_file():
            return _rules_of(_json(path))
        if path.with_suffix(".pkl").is_file():
            raise InputError(
                f"{folder.name}: postprocessing.pkl could run code when it is read; put the "
                "postprocessing.json of the same run beside it, or take it away"
            )
    return []


def _rules_of(content: Mapping[str, Any]) -> list[tuple[int, ...]]:
    rules = []
    pairs = zip(content["postprocessing_fns"], content["postprocessing_kwargs"], strict=True)
    for function, arguments in pairs:
        if function != "remove_all_but_largest_component_from_segmentation":
            raise InputError(f"postprocessing.json: {function} is not known; take it away")
        rules.append(tuple(sorted(set(_flat(arguments["labels_or_regions"])))))
    return rules


def _flat(labels: Any) -> list[int]:
    """A label, or labels and regions in any depth of lists."""
    if isinstance(labels, list):
        return [value for one in labels for value in _flat(one)]
    return [int(labels)]


def _check(model: NnUNetModel) -> None:
    """Pass if all parts of a model are known; errors as of :func:`read_model`."""
    one = model.checkpoints[0]
    plans, configuration = model.plans, model.configuration
    for what, given, known in (
        ("preprocessor", configuration["preprocessor_name"], ["DefaultPreprocessor"]),
        ("image reader", plans["image_reader_writer"], list(_READERS)),
        ("label manager", plans.get("label_manager", "LabelManager"), ["LabelManager"]),
        *(
            ("normalisation", name, list(SCHEMES))
            for name in configuration["normalization_schemes"]
        ),
    ):
        if given not in known:
            raise InputError(
                f"plans.json: {what} {given} is not known; predict with nnU-Net itself"
            )
    different = [c for c in model.checkpoints if c.configuration != one.configuration]
    if different:
        raise InputError(
            f"fold {different[0].fold}: configuration {different[0].configuration}, but fold "
            f"{one.fold} has {one.configuration}; choose by --folds"
        )
    if model.regions is None and sorted(model.labels) != list(range(len(model.labels))):
        listed = ", ".join(map(str, sorted(model.labels)))
        raise InputError(f"dataset.json: labels {listed}; nnU-Net's must run 0, 1, 2, …")
    if model.regions is not None and len(model.regions) != len(model.outputs):
        raise ValueError("regions_class_order does not have one label a region")
    if len(model.normalization) != len(model.channels):
        raise ValueError("normalization_schemes does not have one entry a channel")
    for what in ("data", "probabilities", *(["seg"] if model.previous else [])):
        library = model.resampling(what)["library"]
        if what == "seg" and library == "torch":
            raise InputError(
                "plans.json: a cascade whose labels are resampled by PyTorch is not known; predict "
                "with nnU-Net itself"
            )
    model.network_def(1)
