"""A bundle's inference config, built: transforms, network with weights, inferer."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Compose

from nestseg.bundle import way_back
from nestseg.bundle.building import root_cause
from nestseg.bundle.handover import Entrance
from nestseg.bundle.info import BundleInfo, ChannelMeaning
from nestseg.bundle.options import Level, SegmentOptions
from nestseg.networks.levels import at_level, levels
from nestseg.runtime import fast
from nestseg_prep.errors import InputError
from nestseg_prep.volume import Volume


@dataclass(frozen=True, kw_only=True)
class Model:
    """What an inference config describes, built once and used for every case.

    Attributes:
        info: what the bundle says of itself, with the digest of these weights.
        device: where it computes.
        weights: path of their file in the bundle's folder.
        preprocessing: from ``entrance`` to the network's input.
        entrance: gives a volume to the preprocessing.
        network: with its weights, in evaluation mode.
        inferer: takes the network over the image.
        postprocessing: from the network's output to labels, without what writes files.
        mirrored: axes of the network's input that training mirrored.
        int8: folder of the calibrated model of these weights, if there is one.
        notes: what is done differently than its configs say, in sentences.
        meaning: of the channels of the network's output.
        amp: whether its evaluator computes in half precision where it can.
        saver_resamples: whether its ``SaveImaged`` takes the mask to the voxels of the image.
    """

    info: BundleInfo
    device: torch.device
    weights: Path
    preprocessing: Compose
    entrance: Entrance
    network: torch.nn.Module
    inferer: Any
    postprocessing: Compose
    mirrored: tuple[int, ...] = ()
    int8: Path | None = None
    notes: tuple[str, ...] = ()
    meaning: ChannelMeaning = ChannelMeaning()  # noqa: RUF009  immutable
    amp: bool = False
    saver_resamples: bool = False
    _parts: dict[int, torch.nn.Module] = field(default_factory=dict)
    _fast: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    @property
    def inverse(self) -> way_back.WayBack | None:
        """From logits to the image, if it stitches, takes the argmax and goes back, and no more.

        Options are for such bundles; any other runs as its config says.
        """
        return way_back.inversion(self.inferer, self.postprocessing)

    def preprocessed(self, volume: Volume) -> tuple[dict[Any, Any], MetaTensor]:
        """An image as the network takes it, ``(C, i, j, k)``, and all that its transforms made.

        Raises:
            InputError: a transform refuses the image.
        """
        with self.entrance.given(volume) as given:
            try:
                data = self.preprocessing(given)
            except RuntimeError as error:  # MONAI wraps what a transform raises
                root = root_cause(error)
                if isinstance(root, InputError):
                    raise root from None
                raise
        if not isinstance(data, dict):  # of transforms that take arrays
            data = {"image": data}
        return data, data["image" if "image" in data else self.entrance.key]

    def network_at(self, level: Level) -> torch.nn.Module:
        """The network, or the part of it that the head at ``level`` needs; made once.

        Raises:
            InputError: it has no such head.
        """
        if level is None:
            return self.network
        if level == "auto":
            raise ValueError("auto stands for a level: nestseg.pruning.level says which")
        if level not in self._parts:
            known = levels(self.network)
            if level not in known:
                there = ", ".join(f"L{one}" for one in known) or "no levels"
                raise InputError(f"{self.info.name}: no level L{level}; its network has {there}")
            self._parts[level] = at_level(self.network, level)
        return self._parts[level]

    def inferer_at(self, level: Level) -> Any:
        """The inferer, or one for that part of the network.

        Raises:
            InputError: it has no such head.
        """
        if level is None:
            return self.inferer
        return self.inferer.grown(self.network, self.network_at(level))

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
                network, self.info.weights_sha256, self.device, *chosen[1:], int8
            )
        return self._fast[chosen]
