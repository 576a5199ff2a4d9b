"""Weights that users bring as files, whoever wrote them."""

from __future__ import annotations

import logging
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from nestseg.networks.foreign import ENCODER, Layout, layout_of

_ENTRIES = ("model", "network", "state_dict", "model_state_dict", "net", "weights")
_WRAPPERS = ("module.", "_orig_mod.")  # of DataParallel and torch.compile
_COUNTER = "num_batches_tracked"  # files older than these counters lack them
_logger = logging.getLogger(__name__)


def load_weights(network: nn.Module, path: str | Path) -> list[str]:
    """Load a file of weights into a network: all of them that the network has, or none.

    Besides the network's own names it takes those of torchvision's ResNet, DenseNet and VGG16 (into
    an encoder; VGG16 without batch norm into an ``FCN``), of MedicalNet, of MONAI's
    ``BasicUNetPlusPlus``, ``EfficientNet`` and ``MedNeXt``, and of the authors' U²-Net, D-LinkNet,
    Models Genesis (PyTorch) and UNet++ (Keras, ``.h5``); docs/backbones.md lists the networks.
    State dicts may be wrapped in a checkpoint and carry the prefix of ``DataParallel``.

    A first kernel for another number of channels is adapted: it answers an image whose channels are
    all equal as before. Kernels of 2D encoders are spread over the third axis of a 3D one: it
    answers a volume that is constant along that axis as before.

    Args:
        network: one of this family, or an encoder; gets the weights in place.
        path: a file of ``torch.save``, ``.safetensors`` or Keras' ``.h5``. Nothing is unpickled.

    Returns:
        What was adapted or left out, a line each; also logged.

    Raises:
        ValueError: the file is missing, unreadable or of another network; one line that names the
            file and the first tensor that differs.
    """
    path = Path(path)
    found = read_state_dict(path)
    wanted = network.state_dict()
    try:
        state, notes = translate(network, found)
        layout = foreign_layout(wanted, found)
        part = _part(layout, wanted) if layout else ""
        asked = {n: value for n, value in wanted.items() if n.startswith(part) or n in state}
        if reason := difference(asked, state):
            raise ValueError(f"weights of another network: {reason}")
    except ValueError as error:
        raise ValueError(f"{path}: {error}; name another file or another network") from error
    network.load_state_dict(state, strict=False)
    for note in notes:
        _logger.info("%s: %s", path.name, note)
    return notes


def translate(
    network: nn.Module, found: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Weights by a network's own names, and in its shapes where that can be.

    Args:
        network: gives names and shapes; stays as it is.
        found: weights by the names of any known source.

    Returns:
        These weights; and what was adapted or left out, a line each.

    Raises:
        ValueError: they are of a MedicalNet, and the network's ResNet does not dilate.
    """
    wanted = network.state_dict()
    _check_dilation(network, found)
    layout = foreign_layout(wanted, found)
    if layout is None:
        return _fitted(wanted, dict(found))
    place = _part(layout, wanted) if layout.part == ENCODER else ""
    state: dict[str, Tensor] = {}
    left_out: list[str] = []
    for name, value in found.items():
        ours = layout.translate(name)
        if ours is None or _may_lack(place + ours, wanted, value):
            left_out.append(name)
        elif name.endswith(".kernel"):  # Keras has the channels last
            state[place + ours] = value.permute(-1, -2, *range(value.dim() - 2))
        else:
            state[place + ours] = value
    if layout.up_first:
        _laterals_first(state)
    state, notes = _fitted(wanted, state)
    if left_out:
        some = ", ".join(left_out[:3]) + (", …" if len(left_out) > 3 else "")
        notes.append(f"left out {len(left_out)} tensors of {layout.source}: {some}")
    return state, notes


def foreign_layout(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Layout | None:
    """How weights are named, if not by the network's own names, and if it is known."""
    odd = (name for name in wanted.keys() ^ found.keys() if not name.endswith(_COUNTER))
    return None if next(odd, None) is None else layout_of(found)


def difference(wanted: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """The first way in which weights do not fit a network's state dict; ``""`` if they do."""
    for name, value in wanted.items():
        if name not in state:
            if name.endswith(_COUNTER):
                continue
            return f"`{name}` is missing in the file"
        if not isinstance(value, Tensor):
            continue
        theirs = state[name]
        if not isinstance(theirs, Tensor) or theirs.shape != value.shape:
            there = list(theirs.shape) if isinstance(theirs, Tensor) else type(theirs).__name__
            return f"`{name}` has the shape {there} in the file, {list(value.shape)} in the network"
    unknown = next((name for name in state if name not in wanted), None)
    return f"the network has no `{unknown}`" if unknown is not None else ""


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """A state dict from a file, never running what the file may hold besides tensors.

    Raises:
        ValueError: the file is missing, unreadable, or holds no state dict; one line that names it.
    """
    try:
        content = unwrapped(read_file(path))
    except (
        OSError,
        EOFError,
        RuntimeError,
        ImportError,
        UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: cannot be read as weights: {reason}") from error
    if not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path}: holds no state dict, which maps names to tensors")
    return content


def read_file(path: Path) -> Any:
    """What a file of weights holds: by torch, safetensors or Keras."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file  # noqa: PLC0415  few have such a file

        return load_file(path)
    if path.suffix in (".h5", ".hdf5"):
        return _read_keras(path)
    _check_sums(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def unwrapped(found: Any, entry: str = "") -> dict[str, Any]:
    """The weights in what a file holds, without the prefixes of wrapped modules.

    Args:
        found: as :func:`read_file` gives it.
        entry: the one that holds them; default: a usual name, or none.

    Returns:
        Name → tensor; empty if there are no names.
    """
    for name in (entry,) if entry else _ENTRIES:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
            break
    state = dict(found) if isinstance(found, Mapping) else {}
    for prefix in _WRAPPERS:
        if state and all(str(name).startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def store_half(path: str | Path) -> None:
    """Round the weights in a file to half precision, which halves it and changes no mask visibly.

    What half precision cannot hold (a running variance above 65504, say) stays as it is, and so do
    whole numbers. ``load_state_dict`` turns them back into the network's precision.

    Args:
        path: a state dict, replaced when the new file is whole.

    Raises:
        ValueError: as ``read_state_dict``.
    """
    path = Path(path)
    weights = {name: _halved(tensor) for name, tensor in read_state_dict(path).items()}
    half = path.with_name(f".{path.name}.part")
    torch.save(weights, half)
    half.replace(path)


def _part(layout: Layout, wanted: Mapping[str, Tensor]) -> str:
    """What the names of a layout's part start with; nothing if the network is that part."""
    return layout.part if any(name.startswith(layout.part) for name in wanted) else ""


def _may_lack(name: str, wanted: Mapping[str, Tensor], value: Tensor) -> bool:
    """Whether a network may lack a tensor of a file.

    A head that it was built without; statistics that its norms do not use; the hidden layers of a
    VGG16 in another width.
    """
    if name.startswith("heads."):
        return name not in wanted
    if name.endswith((_COUNTER, "running_mean", "running_var")):
        return name not in wanted and f"{name.rpartition('.')[0]}.weight" in wanted
    return name.startswith("fc.") and name in wanted and wanted[name].numel() != value.numel()


def _check_dilation(network: nn.Module, found: Mapping[str, Tensor]) -> None:
    """MedicalNet's names are those of any 3D ResNet, but its last two layers dilate."""
    first = found.get("conv1.weight")
    if first is None or first.dim() != 5 or "fc.weight" in found:
        return
    if not any(getattr(module, "dilated", False) for module in network.modules()):
        raise ValueError(
            "a 3D ResNet without a classifier is taken for a MedicalNet, whose last two layers "
            "dilate where this network's halve: take an encoder `medicalnet10` to `medicalnet200`"
        )


def _laterals_first(state: dict[str, Tensor]) -> None:
    """Reorder the input channels of decoder nodes: the up-sampled map goes last."""
    for name in [name for name in state if name.endswith(".up.weight")]:
        first = name.replace(".up.weight", ".block.0.conv.weight")
        if first in state:
            kernel, up = state[first], state[name].shape[1]
            state[first] = torch.cat([kernel[:, up:], kernel[:, :up]], dim=1)


def _fitted(
    wanted: Mapping[str, Tensor], state: dict[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Bring kernels to the dimensions of a network, and its first one to the image's channels."""
    notes = []
    first = next((name for name in wanted if name in state and wanted[name].dim() > 3), None)
    fitted = {
        name: _inflated(value, wanted[name]) if name in wanted else value
        for name, value in state.items()
    }
    if first is not None:
        kernel, goal = fitted[first], wanted[first]
        had, has = kernel.shape[1], goal.shape[1]
        if had != has and kernel.shape[:1] + kernel.shape[2:] == goal.shape[:1] + goal.shape[2:]:
            mean = kernel.sum(dim=1, keepdim=True) / has
            fitted[first] = mean.repeat_interleave(has, dim=1)
            notes.append(f"`{first}` was adapted from {had} channels to {has}")
    return fitted, notes


def _inflated(value: Tensor, goal: Tensor) -> Tensor:
    """A kernel with the axes of ``goal``: of a slice for a volume, of a vector for an image."""
    if value.dim() == 4 and goal.dim() == 5:
        depth = goal.shape[-1]
        return value.unsqueeze(-1).expand(*value.shape, depth) / depth
    if value.dim() == 2 and goal.dim() == 4 and value.numel() == math.prod(goal.shape):
        return value.reshape(goal.shape)
    return value


def _read_keras(path: Path) -> dict[str, Tensor]:
    """``conv11_1.kernel`` and the like, from a file of weights or a whole model."""
    try:
        import h5py  # noqa: PLC0415  an extra
    except ImportError as error:
        raise ImportError("h5py is not installed; pip install h5py") from error
    state: dict[str, Tensor] = {}

    def take(name: str, item: Any) -> None:
        parts = name.removeprefix("model_weights/").split("/")
        if isinstance(item, h5py.Dataset) and "optimizer_weights" not in parts:
            state[f"{parts[0]}.{parts[-1].partition(':')[0]}"] = torch.from_numpy(item[()])

    with h5py.File(path) as file:
        file.visititems(take)
    return state


def _check_sums(path: Path) -> None:
    """Compare the parts of a weights file with their checksums, which ``torch.load`` does not do.

    Without this most flips of a bit give other weights, and no word.
    """
    if not zipfile.is_zipfile(path):  # as torch wrote before 1.6; cut archives it refuses itself
        return
    with zipfile.ZipFile(path) as parts:
        if (part := parts.testzip()) is not None:
            raise zipfile.BadZipFile(f"{part} is damaged")


def _halved(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    return half if torch.isfinite(half).all() else tensor
