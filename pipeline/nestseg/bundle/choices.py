"""The choices of a plan as lines of a recipe, each with the numbers that led to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nestseg.bundle import plan as planning
from nestseg.bundle.memory import Counted
from nestseg.bundle.plan import Plan
from nestseg_prep.fingerprint import Fingerprint
from nestseg_prep.layouts import DataSet

_GB = 10**9
_AXIS = {"R": "right-left", "A": "front-back", "S": "head-feet"}
_SIDES = ("left", "right")
_STRIPPED = 0.25  # share of exact zeros from which on they are no tissue


@dataclass(frozen=True)
class Choice:
    """One line of an ``override``.

    Attributes:
        key: in MONAI's config language.
        value: anything that JSON has.
        why: one or more sentences.
    """

    key: str
    value: Any
    why: str


def shared(plan: Plan, facts: Fingerprint, data: DataSet) -> list[Choice]:
    """What training and inference have in common."""
    return [*_space(plan, facts), *_network(plan), *_intensity(facts, data), _window(plan)]


def training(plan: Plan, facts: Fingerprint, labels: dict[int, str], cases: int) -> list[Choice]:
    """What training has for itself; ``cases`` are those to train on."""
    heads = len(plan.network.heads)
    choices = [
        Choice(
            "dataset_dir",
            "$str(@bundle_root) + '/datalist.json'",
            "The split, with the path of each file.",
        ),
        Choice("train_size", [*plan.patch, *[1] * (3 - plan.dims)], _why_patch(plan)),
        Choice("batch_size", plan.batch, _why_batch(plan, cases)),
        Choice(
            "epochs",
            plan.epochs,
            f"{cases} cases in batches of {plan.batch}: {-(-cases // plan.batch)} steps an epoch; "
            f"{planning.STEPS} steps or more, and never fewer than 50 epochs.",
        ),
        Choice("val_interval", plan.val_interval, "About 25 looks at the validation cases."),
        Choice(
            "deep_supervision_weights",
            [1.0] * heads,
            f"Heads: {heads}, of equal weight, as in the paper of UNet++.",
        ),
        Choice("class_ratios", *_class_ratios(facts, labels)),
        Choice("rotate_range", *_rotation(plan)),
        *_flips(plan, labels),
    ]
    if plan.dims == 2:
        choices += [
            Choice("scale_range", [0.2, 0.2], "Two axes."),
            Choice("upsample_mode", "bilinear", "Two axes."),
            Choice(
                "+crop",
                [
                    {"_target_": "EnsureTyped", "keys": "@keys", "track_meta": False},
                    {"_target_": "SqueezeDimd", "keys": "@keys", "dim": -1},
                ],
                "A patch of one slice becomes an image, without an affine: that of a volume does "
                "not fit it.",
            ),
        ]
    if plan.cached < cases:
        why = (
            f"A case takes about {_gb(8 * _voxels(plan))} in memory: {plan.cached} of {cases} "
            f"fit into {_gb(plan.budget)}, the others are read anew every epoch."
        )
        choices.append(Choice("train#dataset#cache_num", plan.cached, why))
        choices.append(Choice("validate#dataset#cache_num", 0, "The training cases come first."))
    return choices


def selection(facts: Fingerprint, data: DataSet) -> list[Choice]:
    """Which images the bundle takes."""
    extents = [
        n * mm
        for shape, spacing in zip(facts.shapes, facts.spacings, strict=True)
        for n, mm in zip(shape, spacing, strict=True)
    ]
    low, high = min(extents), max(extents)
    said = f"{data.source} says {data.modality}."
    unsaid = f"{data.source} does not say what the images are: MR is assumed; correct it here."
    return [
        Choice("selection#modalities", [data.modality or "MR"], said if data.modality else unsaid),
        Choice(
            "selection#extent_mm",
            [int(low / 2), int(-(-high * 2 // 1))],
            f"Images measured {low:.0f} to {high:.0f} mm; what is less than half or more than "
            "twice that is another kind of image.",
        ),
    ]


def metadata(plan: Plan, facts: Fingerprint, data: DataSet, labels: dict[int, str]) -> list[Choice]:
    """What the bundle says about itself."""
    names = {str(value): name for value, name in labels.items()}
    listed = ", ".join(f"{value} is {name}" for value, name in names.items())
    title = f"Segmentation of {data.name}"
    shape = [f"{2 * period}*n" for period in plan.geometry.period]
    image, pred = "network_data_format#inputs#image", "network_data_format#outputs#pred"
    declared = f"As in {data.source}."
    if facts.labels.keys() - {0} and data.labels is None:
        declared = f"{data.source} names no labels: these are the values that occur."
    periods = (
        "Twice the period of the network, so that instance norm sees more than one voxel at the "
        "bottom."
    )
    return [
        Choice("version", "0.1.0", "The first one."),
        Choice("changelog", {"0.1.0": "First version."}, "One line a version."),
        Choice("name", title, "Give it a name of your own."),
        Choice("task", title, "Say what the network is for."),
        Choice("description", data.description or title, f"From {data.source}, if it has one."),
        Choice("authors", "not stated", "Write who trained it."),
        Choice("copyright", data.licence or "not stated", "Of the data, as far as they say."),
        Choice("data_source", data.name, "Say where the data come from."),
        Choice("image_classes", f"single channel {data.modality or 'image'}", declared),
        Choice("label_classes", listed, declared),
        Choice("pred_classes", listed, declared),
        Choice(
            f"{image}#format",
            "hounsfield" if data.modality == "CT" else "magnitude",
            "CT values are HU, others have no unit.",
        ),
        Choice(f"{image}#modality", data.modality or "n/a", declared),
        Choice(f"{image}#spatial_shape", shape, periods),
        Choice(f"{pred}#spatial_shape", shape, "The network keeps the size."),
        Choice(f"{pred}#num_channels", len(names), "One a label."),
        Choice(f"{pred}#channel_def", names, declared),
    ]


def _space(plan: Plan, facts: Fingerprint) -> list[Choice]:
    median, shape = facts.median_spacing(), facts.median_shape()
    said = f"Median of {len(facts.cases)} images (R×A×S): {_by(shape)} voxels of {_by(median)} mm. "
    if plan.dims == 2:
        axis = _AXIS[plan.axcodes[-1]]
        order = (
            f"The slices lie across the {axis} axis, which goes last: the network is 2D, because "
            f"there are {plan.slices} of them (fewer than {2 * planning.SHORTEST} cannot be "
            f"pooled) and they are {plan.anisotropy:.1f} times as far apart as voxels within "
            f"(from {planning.SLICEWISE:g} on they share too little)."
        )
        spacing = said + "Slices stay where they are (0)."
    else:
        order = (
            f"A 3D network: {plan.slices} slices along the coarsest axis, "
            f"{plan.anisotropy:.1f} times as far apart as voxels within."
        )
        spacing = said + (
            f"One axis is {plan.anisotropy:.1f} times as coarse as the others (from "
            f"{planning.ANISOTROPIC:g} on: the 10th percentile, {_by(facts.fine_spacing())} mm, "
            "there, but no finer than the others)."
            if plan.thick
            else f"No axis is {planning.ANISOTROPIC:g} times as coarse as the others."
        )
    return [Choice("axcodes", plan.axcodes, order), Choice("spacing", list(plan.spacing), spacing)]


def _network(plan: Plan) -> list[Choice]:
    network, prefix = plan.network, "network_def#"
    bottom = [n // p for n, p in zip(plan.patch, plan.geometry.period, strict=True)]
    if network.counted:
        return [_on_encoder(plan, network.counted)]
    top, most = planning.WIDTHS[plan.dims]
    plus = network.topology == "unet++"
    choices = [
        Choice(
            prefix + "topology",
            network.topology,
            "Dense skips and a head on every column; it fits the memory."
            if plus
            else "UNet++ does not fit the memory even on the smallest patch; a U-Net does.",
        ),
        Choice(
            prefix + "pools",
            [list(factors) for factors in network.pools],
            f"A patch of {_by(plan.patch)} is pooled to {_by(bottom)}: each axis as long as "
            f"{planning.SHORTEST} voxels are left and it is at most twice as coarse as the finest; "
            f"at most {planning.MAX_DEPTH} times, as in the paper of UNet++.",
        ),
        Choice(
            prefix + "features",
            list(network.features),
            f"{top} channels at the top, doubled with each pooling up to {most}.",
        ),
        Choice(prefix + "out_channels", network.classes, "The labels with the background."),
    ]
    if plan.dims == 2:
        choices.append(Choice(prefix + "spatial_dims", 2, "See `axcodes`."))
    return choices


def _on_encoder(plan: Plan, counted: Counted) -> Choice:
    network, period = plan.network, plan.geometry.period
    definition = {
        "_target_": "nestseg.networks.BackboneUNet",
        "spatial_dims": plan.dims,
        "in_channels": 1,
        "out_channels": network.classes,
        "encoder": counted.encoder,
        "features": list(network.features),
        "topology": network.topology,
    }
    why = (
        f"The network that was asked for. Its encoder halves every axis alike, {_by(period)} in "
        "all. `weights` may name a file for the encoder (docs/backbones.md of nestseg)."
    )
    return Choice("network_def", definition, why)


def _intensity(facts: Fingerprint, data: DataSet) -> list[Choice]:
    inside = facts.foreground
    if data.modality == "CT" and inside is not None:
        everywhere = f"all voxels: {facts.overall.low:g} to {facts.overall.high:g}"
        return [
            Choice(
                "clip_hu",
                [inside.low, inside.high],
                f"0.5th and 99.5th percentile of the foreground ({everywhere}), median "
                f"{inside.median:g} HU.",
            ),
            Choice("mean_hu", inside.mean, "Mean of the foreground after clipping."),
            Choice("sd_hu", inside.sd or 1.0, "Standard deviation of the foreground likewise."),
        ]
    kind = data.modality or "Images of no stated modality"
    stripped = facts.zeros > _STRIPPED
    why = (
        f"{kind}: each volume by its own mean and standard deviation, as values have no common "
        f"unit. {facts.zeros:.0%} of the voxels of a median volume are exactly 0 (more than "
        f"{_STRIPPED:.0%}: only the others count)."
    )
    return [Choice("intensity#1#nonzero", stripped, why)]


def _window(plan: Plan) -> Choice:
    return Choice("roi_size", list(plan.patch), "Inference sees what training saw: `train_size`.")


def _why_patch(plan: Plan) -> str:
    count, period = planning.least_batch(plan.dims), _by(plan.geometry.period)
    said = f"The median image is {_by(plan.shape)} voxels of this spacing. "
    if all(n >= whole for n, whole in zip(plan.patch, plan.shape, strict=False)):
        return said + (
            f"{count} of it fit into {_gb(plan.budget)}, rounded up to the network's period "
            f"{period}."
        )
    return said + (
        f"The longest axis in mm was shortened until {count} patches fit into "
        f"{_gb(plan.budget)}, in steps of the network's period {period}."
    )


def _why_batch(plan: Plan, cases: int) -> str:
    most, share = planning.MAX_BATCH[plan.dims], planning.BATCH_SHARE
    return (
        f"A step takes about {_gb(plan.memory)} of {_gb(plan.budget)}. From "
        f"{planning.least_batch(plan.dims)} to {most}, as many as fit, but no more than "
        f"{share:.0%} of the voxels of the {cases} cases."
    )


def _class_ratios(facts: Fingerprint, labels: dict[int, str]) -> tuple[list[int], str]:
    foreground = len(labels) - 1
    shares = ", ".join(
        f"{name} {facts.labels[value].share:.2%}" if value in facts.labels else f"{name} never"
        for value, name in labels.items()
    )
    why = (
        "One patch in three is centred on a label, each label as often as the others; the rest on "
        f"the background. Shares of all voxels: {shares}."
    )
    return [2 * foreground, *[1] * foreground], why


def _rotation(plan: Plan) -> tuple[list[float], str]:
    if plan.dims == 2:
        return [0.25], "In plane, up to 14 degrees."
    if plan.thick:
        slice_axis = max(range(3), key=lambda axis: (plan.spacing[axis], axis))
        why = f"Up to 14 degrees within the slices: across them voxels are {plan.anisotropy:.1f} "
        return [0.25 * (axis == slice_axis) for axis in range(3)], why + "times as long."
    return [0.25] * 3, "Up to 14 degrees about each axis: voxels are nearly cubes."


def _flips(plan: Plan, labels: dict[int, str]) -> list[Choice]:
    in_plane = plan.axcodes[: plan.dims]
    sided = [name for name in labels.values() if any(side in name.lower() for side in _SIDES)]
    axis = max(0, in_plane.find("R"))
    if sided:
        return [Choice("flip_prob", 0.0, f"A label has a side ({sided[0]}): never mirror.")]
    if "R" not in in_plane:
        return [Choice("flip_prob", 0.0, "The slices have no left and right: never mirror.")]
    why = "Left and right may be exchanged: no label names a side."
    return [
        Choice("flip_prob", 0.5, why),
        Choice("flip_axis", axis, "The axis from left to right."),
    ]


def _voxels(plan: Plan) -> int:
    i, j, k = plan.shape
    return i * j * k


def _by(numbers: tuple[float, ...] | list[int]) -> str:
    return "×".join(f"{n:.4g}" for n in numbers)


def _gb(number: int) -> str:
    return f"{number / _GB:.2g} GB"
