"""A bundle in memory, ready to segment: transforms, network with weights, inferer."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, SaveImaged

from nestseg.bundle.built import BundleConfig
from nestseg.bundle.selection import read_selection
from nestseg_prep.affine import corner_distance
from nestseg_prep.errors import InputError
from nestseg_prep.selection import Selection
from nestseg_prep.volume import Volume

_SAME_PLACE_MM = 1e-3


@dataclass(frozen=True)
class LoadedBundle:
    """What an inference config describes, built once and used for every case.

    Attributes:
        name: the folder's name.
        version: of the bundle, from its metadata.
        weights_sha256: of ``models/model.pt``.
        labels: value in the mask → name, without the background.
        segment_codes: what labels mean in codes, where the metadata say so
            (``nestseg.outputs.dicom.terminology``).
        selection: which series it takes.
        device: where it computes.
    """

    name: str
    version: str
    weights_sha256: str
    labels: dict[int, str]
    segment_codes: dict[str, Any]
    selection: Selection
    device: torch.device
    _preprocessing: Compose
    _network: torch.nn.Module
    _inferer: Any
    _postprocessing: Compose

    @property
    def parameters(self) -> int:
        """How many numbers the network learned."""
        return sum(weight.numel() for weight in self._network.parameters())

    def segment(self, volume: Volume) -> Volume:
        """Label every voxel of an image.

        Args:
            volume: the image, true values.

        Returns:
            The label map on exactly the voxels of ``volume``: uint8, or uint16 where a label is
            above 255.

        Raises:
            RuntimeError: the mask came back on another grid than the image's.
        """
        data = self._preprocessing({"image": volume})
        with torch.no_grad():
            logits = self._inferer(data["image"][None].to(self.device), self._network)
        data["pred"] = logits[0]
        mask = self._postprocessing(data)["pred"]
        kind = np.uint8 if max(self.labels, default=0) < 256 else np.uint16
        array = np.asarray(mask[0].cpu(), dtype=kind)
        if (
            array.shape != volume.shape
            or corner_distance(mask.affine, volume.affine, volume.shape) > _SAME_PLACE_MM
        ):
            raise RuntimeError(
                f"the mask came back on a grid of {array.shape}, the image has {volume.shape}"
            )
        return Volume(array, volume.affine, volume.series_uid, volume.sop_uids, volume.source)


def load(bundle: Path) -> LoadedBundle:
    """Build everything that the bundle's inference config describes. This runs the bundle's code.

    Raises:
        InputError: a config or the weights are missing, damaged or do not fit together.
    """
    config = BundleConfig(bundle, "inference.json")
    names = ("preprocessing", "network", "inferer", "postprocessing", "device")
    parts = {name: config.build(name) for name in names}
    weights = bundle / "models" / "model.pt"
    read_weights(parts["network"], weights, bundle.name)
    steps = [t for t in parts["postprocessing"].transforms if not isinstance(t, SaveImaged)]
    outputs = config.metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    return LoadedBundle(
        name=bundle.name,
        version=str(config.metadata["version"]),
        weights_sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
        labels={int(value): label for value, label in outputs.items() if int(value)},
        segment_codes=dict(config.metadata.get("segment_codes", {})),
        selection=read_selection(bundle),
        device=parts["device"],
        _preprocessing=parts["preprocessing"],
        _network=parts["network"].eval(),
        _inferer=parts["inferer"],
        _postprocessing=Compose(steps),
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
