"""The network of a bundle: its sizes, one tensor when it predicts, its loss when it learns."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.inferers import SimpleInferer
from monai.losses import DeepSupervisionLoss
from monai.utils.safeeval import safe_eval
from torch import Tensor, nn

from nestseg.bundle import building
from nestseg.bundle.built import BundleConfig
from nestseg.bundle.checks import layout
from nestseg.bundle.checks.metadata import FILE
from nestseg.bundle.findings import Finding, warning
from nestseg.bundle.weights import read_weights, source
from nestseg.inferers import OverlapTileInferer
from nestseg.networks.adapted import heads
from nestseg_prep.errors import InputError

_LARGEST = 2**22
_IN, _OUT = "network_data_format#inputs#image", "network_data_format#outputs#pred"


def check(bundle: Path, metadata: dict[str, Any]) -> list[Finding]:
    """Run the network of the inference config on noise, and the loss of the train config."""
    data = metadata.get("network_data_format", {})
    try:
        takes, gives = data["inputs"]["image"], data["outputs"]["pred"]
        takes["spatial_shape"], gives["spatial_shape"], takes["num_channels"], gives["num_channels"]
    except (KeyError, TypeError):
        return []  # the metadata's own check says so
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            network = _built(bundle, "inference", "network_def")
        except building.BuildError as error:
            return [Finding("inference.json", error.place, error.why, "fix the config")]
        if not isinstance(network, nn.Module):
            problem = "is no network"
            return [Finding("inference.json", "network_def", problem, "give it a `_target_`")]
        found = list(_weights(bundle, network))
        found += list(dict.fromkeys(_sizes(bundle, network, takes, gives)))
        return found or list(_loss(bundle, takes, gives))


def _built(bundle: Path, config: str, place: str) -> Any:
    parser = ConfigParser()
    try:
        parser.read_config(str(layout.config_file(bundle, config)))
        parser["bundle_root"] = str(bundle)
        if "device" in parser:
            parser["device"] = "$torch.device('cpu')"
        parser.parse()
    except (ValueError, KeyError) as error:
        raise building.BuildError("", building.first_line(error)) from error
    return building.build(parser, place)


def _weights(bundle: Path, network: nn.Module) -> Iterator[Finding]:
    try:
        where = source(BundleConfig.inference(bundle), bundle)
    except InputError as error:
        yield Finding("inference.json", "", str(error), "fix its CheckpointLoader")
        return
    if not (bundle / where.path).is_file():
        if layout.has_weights(bundle):  # others; where there are none, the layout's check says so
            problem = "is missing, which inference.json reads"
            yield Finding(where.path.as_posix(), "", problem, "train the bundle")
        return
    try:
        read_weights(network, bundle, where)
    except InputError:
        problem = "does not fit `network_def` of inference.json"
        yield Finding(where.path.as_posix(), "", problem, "train again, or restore the network")


def _shapes(tensor: dict[str, Any]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Factors n per axis, and the spatial shape they give; cubes first, then all axes apart."""
    axes = tensor["spatial_shape"]
    dims = len(axes)
    mixed = tuple(itertools.islice(itertools.cycle((1, 2)), dims))
    for factors in ((1,) * dims, (2,) * dims, mixed, mixed[::-1]):
        yield factors, tuple(_size(axis, n) for axis, n in zip(axes, factors, strict=True))


def _size(axis: int | str, n: int) -> int:
    if isinstance(axis, int):
        return axis
    if axis == "*":
        return 16 * n
    return int(safe_eval(axis, {"p": np.int32(n), "n": np.int32(n)}, rewrite_np=True))


def _sizes(
    bundle: Path, network: nn.Module, takes: dict[str, Any], gives: dict[str, Any]
) -> Iterator[Finding]:
    network.eval()
    stitched = isinstance(_inferer(bundle, "inference", "inferer"), OverlapTileInferer)
    for (factors, shape), (_, expected) in zip(_shapes(takes), _shapes(gives), strict=False):
        size = "×".join(map(str, shape))
        if np.prod(shape) > _LARGEST:
            yield warning(FILE, f"{_IN}#spatial_shape", f"{size} is not tried here", "use 16*n")
            continue
        place = f"{_IN}#spatial_shape"
        try:
            with torch.no_grad():
                x = torch.rand(1, takes["num_channels"], *shape)
                out = heads(network, x)[0] if stitched else network(x)
        except Exception as error:  # noqa: BLE001  whatever a network raises
            why = building.first_line(error)
            problem = f"the network refuses {takes['num_channels']} channels of {size}: {why}"
            yield Finding(FILE, place, problem, "give sizes that are legal for every n from 1")
            return
        if not isinstance(out, Tensor):
            # Whether segment takes it is found by running it; MONAI's own tools do not.
            problem = f"gives a {type(out).__name__} when it predicts"
            remedy = "return one tensor in eval: verify_net_in_out and the exports of MONAI ask so"
            yield warning("inference.json", "network_def", problem, remedy)
            if not isinstance(out, list | tuple) or not out or not isinstance(out[0], Tensor):
                return
            out = out[0]
        if out.shape[1] != gives["num_channels"]:
            problem = f"is {gives['num_channels']}; the network gives {out.shape[1]}"
            yield Finding(FILE, f"{_OUT}#num_channels", problem, "write what it gives")
        if "*" not in gives["spatial_shape"] and tuple(out.shape[2:]) != expected:
            given = "×".join(map(str, out.shape[2:]))
            problem = f"is {'×'.join(map(str, expected))} at n={factors}; the network gives {given}"
            yield Finding(FILE, f"{_OUT}#spatial_shape", problem, "write what it gives")


def _loss(bundle: Path, takes: dict[str, Any], gives: dict[str, Any]) -> Iterator[Finding]:
    """The loss of the train config takes what the network gives while it learns."""
    if layout.config_file(bundle, "train") is None:
        return
    try:
        network, loss = (_built(bundle, "train", place) for place in ("network_def", "loss"))
    except building.BuildError as error:
        if "is not defined" not in error.why:  # other names for the loss are legal
            yield Finding("train.json", error.place, error.why, "fix the config")
        return
    _, shape = next(itertools.islice(_shapes(takes), 1, None))
    if np.prod(shape) > _LARGEST:
        return
    inferer = _inferer(bundle, "train", "train#inferer")
    out = inferer(torch.rand(2, takes["num_channels"], *shape), network.train())
    several = list(out) if isinstance(out, (list, tuple)) else [out]
    if max(head.shape[2:].numel() for head in several) > several[0].shape[2:].numel():
        problem = "gives its heads in another order than the main one first"
        yield Finding("train.json", "network_def", problem, "MONAI weighs the first head most")
        return
    classes = gives["num_channels"]
    weights = getattr(loss, "weights", None)
    if isinstance(loss, DeepSupervisionLoss) and weights and len(weights) < len(several):
        problem = f"has {len(weights)} weights, the network {len(several)} heads"
        yield Finding("train.json", "loss#weights", problem, "give it one weight a head")
        return
    target = torch.randint(0, max(classes, 2), (2, 1, *several[0].shape[2:])).float()
    weighted = torch.cat([target, torch.ones_like(target)], dim=1)  # a label and its weight map
    value, why = _first_value(loss, out, (target, weighted))
    if value is None:
        problem = f"does not take what the network gives in training: {why}"
        yield Finding("train.json", "loss", problem, "give it one weight a head")
        return
    if value.numel() != 1 or not torch.isfinite(value).all():
        yield Finding("train.json", "loss", "is no finite number", "reduce it to one")


def _inferer(bundle: Path, config: str, place: str) -> Any:
    """What runs the network in a workflow; MONAI's evaluators have one by default."""
    try:
        return _built(bundle, config, place)
    except building.BuildError:  # where it is not missing, the workflow's check says so
        return SimpleInferer()


def _first_value(loss: Any, out: Any, targets: tuple[Tensor, ...]) -> tuple[Tensor | None, str]:
    """The loss of the first target that it takes, or why it took none."""
    why = ""
    for target in targets:
        try:
            return loss(out, target), ""
        except Exception as error:  # noqa: BLE001  whatever a loss raises
            why = why or building.first_line(error)
    return None, why
