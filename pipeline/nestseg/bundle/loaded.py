"""A bundle in memory, ready to segment: transforms, network with weights, inferer."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Compose

from nestseg.bundle import as_configured, examining, packages, way_back, weights
from nestseg.bundle.built import BundleConfig
from nestseg.bundle.flips import trained_axes
from nestseg.bundle.handover import Entrance
from nestseg.bundle.info import (
    BundleInfo,
    has_background,
    input_channels,
    input_dims,
    named_channels,
    names_of_values,
    output_channels,
    read_config,
    read_info,
    weights_digest,
)
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
        weights: path of their file in the bundle's folder.
        channel_of: value in the mask → channel of the network's output, where the postprocessing
            tells; else empty, and each channel is its own value.
        first: value that channel 0 stands for, where the postprocessing leaves a channel a label.
        metadata: of the bundle.
        amp: whether its evaluator computes in half precision where it can.
        saver_resamples: whether its ``SaveImaged`` takes the mask to the voxels of the image.
    """

    device: torch.device
    weights: Path
    _preprocessing: Compose
    _entrance: Entrance
    _network: torch.nn.Module
    _inferer: Any
    _postprocessing: Compose
    mirrored: tuple[int, ...] = ()
    members: tuple[LoadedBundle, ...] = ()
    int8: Path | None = None
    notes: tuple[str, ...] = ()
    channel_of: dict[int, int] = field(default_factory=dict)
    first: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)
    amp: bool = False
    saver_resamples: bool = False
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

    def preprocessed(self, volume: Volume) -> tuple[dict[Any, Any], MetaTensor]:
        """An image as the network takes it, ``(C, i, j, k)``, and all that its transforms made."""
        with self._entrance.given(volume) as given:
            data = self._preprocessing(given)
        if not isinstance(data, dict):  # of transforms that take arrays
            data = {"image": data}
        return data, data["image" if "image" in data else self._entrance.key]

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
    bundle = bundle.resolve()
    info, contents = read_info(bundle, None), read_config(bundle)
    config = BundleConfig.inference(bundle)
    metadata = config.metadata
    names = ("preprocessing", "network", "inferer", "postprocessing", "device")
    parts = {name: config.build(name) for name in names}
    where = weights.source(config, bundle)
    weights.read_weights(parts["network"], bundle, where)
    entrance = Entrance(parts["preprocessing"], input_channels(metadata), bundle.name)
    spare_memory(parts["preprocessing"])
    quick_percentiles(parts["preprocessing"])
    by_nearest = way_back.send_labels_by_nearest(parts["postprocessing"])
    postprocessing, resamples = as_configured.without_savers(parts["postprocessing"])
    digest = weights_digest(bundle, where.path)
    geometry = getattr(parts["network"], "geometry", None)
    dims = len(geometry.axes) if geometry is not None else input_dims(metadata)
    notes = (way_back.LABELS_BY_NEAREST,) if by_nearest else ()
    loaded = LoadedBundle(
        **{one.name: getattr(info, one.name) for one in fields(info)} | {"weights_sha256": digest},
        device=parts["device"],
        weights=where.path,
        _preprocessing=parts["preprocessing"],
        _entrance=entrance,
        _network=parts["network"].eval(),
        _inferer=parts["inferer"],
        _postprocessing=postprocessing,
        mirrored=trained_axes(bundle, dims),
        int8=calibrated.folder(bundle, digest),
        notes=(*notes, *packages.outdated(metadata)),
        metadata=metadata,
        amp=config.raw("evaluator#amp") is not None and config.build("evaluator#amp") is True,
        saver_resamples=resamples,
    )
    if loaded.takes_options:
        return loaded
    named = named_channels(metadata, contents)
    channels = output_channels(metadata) or len(named)
    if channels == 1 and len(named) > 1:  # the names are those of values
        return loaded
    first = as_configured.first_value(postprocessing, channels, background=has_background(named))
    found = as_configured.values(postprocessing, channels, first)
    labels = names_of_values(metadata, contents, found) or loaded.labels
    return replace(loaded, channel_of=found, labels=labels, first=first)
