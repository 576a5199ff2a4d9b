"""A bundle in memory, ready to segment: transforms, network with weights, inferer."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from monai.transforms import Compose, SaveImaged

from nestseg.bundle import examining, way_back
from nestseg.bundle.built import BundleConfig
from nestseg.bundle.flips import trained_axes
from nestseg.bundle.info import WEIGHTS, BundleInfo, read_info
from nestseg.bundle.options import Level, SegmentOptions
from nestseg.networks.levels import at_level, levels
from nestseg.outputs.segmentation import Segmentation
from nestseg.runtime import calibrated, fast
from nestseg_prep.errors import InputError
from nestseg_prep.fill import finite
from nestseg_prep.transforms.percentiles import quick_percentiles
from nestseg_prep.transforms.resample import spare_memory
from nestseg_prep.volume import Volume


@dataclass(frozen=True, kw_only=True)
class LoadedBundle(BundleInfo):
    """What an inference config describes, built once and used for every case.

    Attributes:
        mirrored: axes of the network's input that training mirrored.
        device: where it computes.
        members: the further bundles of an ensemble.
        int8: folder of the calibrated model of these weights, if there is one.
        notes: what is done differently than its configs say, in sentences.
    """

    device: torch.device
    _preprocessing: Compose
    _network: torch.nn.Module
    _inferer: Any
    _postprocessing: Compose
    mirrored: tuple[int, ...] = ()
    members: tuple[LoadedBundle, ...] = ()
    int8: Path | None = None
    notes: tuple[str, ...] = ()
    _parts: dict[int, torch.nn.Module] = field(default_factory=dict)
    _fast: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """How many numbers the network learned."""
        return sum(weight.numel() for weight in self._network.parameters())

    @property
    def takes_options(self) -> bool:
        """Whether it stitches, takes the argmax and goes back, and no more, as options ask for."""
        return examining.inversion(self) is not None

    def segment(self, volume: Volume) -> Volume:
        """Label every voxel of an image: the mask of :meth:`examine`."""
        return self.examine(volume).mask

    def examine(self, volume: Volume, options: SegmentOptions | None = None) -> Segmentation:
        """Label every voxel of an image, and say how sure the network is.

        Args:
            volume: the image, true values.
            options: what else to compute, and how; those that the bundle was loaded with.

        Raises:
            InputError: the bundle cannot do what the options ask for, or more than 0.1 % of the
                voxels are NaN or infinite; fewer count as the lowest finite value.
            RuntimeError: the mask came back on another grid than the image's.
        """
        volume = replace(volume, array=finite(volume.array))
        return examining.examine(self, volume, options or SegmentOptions())

    def network_at(self, level: Level) -> torch.nn.Module:
        """The network, or the part of it that the head at ``level`` needs; made once.

        Raises:
            InputError: it has no such head.
        """
        if level is None:
            return self._network
        if level == "auto":
            raise ValueError("auto stands for a level: nestseg.pruning.level says which")
        if level not in self._parts:
            known = levels(self._network)
            if level not in known:
                there = ", ".join(f"L{one}" for one in known) or "no levels"
                raise InputError(f"{self.name}: no level L{level}; its network has {there}")
            self._parts[level] = at_level(self._network, level)
        return self._parts[level]

    def inferer_at(self, level: Level) -> Any:
        """The inferer, or one for that part of the network.

        Raises:
            InputError: it has no such head.
        """
        if level is None:
            return self._inferer
        return self._inferer.grown(self._network, self.network_at(level))

    def answering(self, options: SegmentOptions) -> Any:
        """What answers for the network as fast as this machine can; made once for each choice.

        Raises:
            InputError: there is no such level, or what was asked for by name is not there.
        """
        network = self.network_at(options.level)
        chosen = (network, options.precision, options.runtime)
        if chosen not in self._fast:
            int8 = self.int8 if options.level is None else None
            self._fast[chosen] = fast.load(
                network, self.weights_sha256, self.device, *chosen[1:], int8
            )
        return self._fast[chosen]


def load(bundle: Path, options: SegmentOptions | None = None) -> LoadedBundle:
    """Build everything that the bundle's inference config describes. This runs the bundle's code.

    Args:
        bundle: its folder.
        options: what it will be asked for; the ensemble is loaded with it.

    Raises:
        InputError: a config or the weights are missing, damaged or do not fit together, or the
            bundle cannot do what the options ask for.
    """
    first = _load(bundle)
    if options is not None:
        first = replace(first, members=tuple(_load(folder) for folder in options.ensemble))
        examining.check(first, options)
    return first


def _load(bundle: Path) -> LoadedBundle:
    config = BundleConfig(bundle, "inference.json")
    names = ("preprocessing", "network", "inferer", "postprocessing", "device")
    parts = {name: config.build(name) for name in names}
    read_weights(parts["network"], bundle / WEIGHTS, bundle.name)
    spare_memory(parts["preprocessing"])
    quick_percentiles(parts["preprocessing"])
    info = read_info(bundle)
    geometry = getattr(parts["network"], "geometry", None)
    by_nearest = way_back.send_labels_by_nearest(parts["postprocessing"])
    steps = [t for t in parts["postprocessing"].transforms if not isinstance(t, SaveImaged)]
    return LoadedBundle(
        **{one.name: getattr(info, one.name) for one in fields(info)},
        device=parts["device"],
        _preprocessing=parts["preprocessing"],
        _network=parts["network"].eval(),
        _inferer=parts["inferer"],
        _postprocessing=Compose(steps),
        mirrored=trained_axes(bundle, len(getattr(geometry, "axes", (0, 1, 2)))),
        int8=calibrated.folder(bundle, info.weights_sha256),
        notes=(way_back.LABELS_BY_NEAREST,) if by_nearest else (),
    )


def read_weights(network: torch.nn.Module, path: Path, bundle: str) -> None:
    """Give a network its weights, every one of them.

    Raises:
        InputError: the file is missing, damaged, or belongs to another network.
    """
    try:
        _check_sums(path)
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError:
        raise InputError(f"{bundle}: models/model.pt is missing; train the bundle first") from None
    except Exception as error:  # torch raises a dozen kinds for a damaged or foreign file
        raise InputError(
            f"{bundle}: models/model.pt is damaged or belongs to another network "
            f"({type(error).__name__}); restore the file"
        ) from error


def _check_sums(path: Path) -> None:
    """Compare the parts of a weights file with their checksums, which ``torch.load`` does not do.

    Without this most flips of a bit give other weights, and no word.
    """
    if not zipfile.is_zipfile(path):  # as torch wrote before 1.6; cut archives it refuses itself
        return
    with zipfile.ZipFile(path) as parts:
        if (part := parts.testzip()) is not None:
            raise zipfile.BadZipFile(part)
