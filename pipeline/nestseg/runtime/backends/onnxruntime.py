"""ONNX Runtime, in float32 on CPUs and CUDA. It needs the extra ``onnx``."""

from __future__ import annotations

import logging
import warnings
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nestseg.runtime.contract import Built, Heads, Task, UnavailableError

FIXED_SHAPE = True
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def version() -> str:
    """Of ONNX Runtime, and of torch, whose exporter writes the graph."""
    return f"{_library().__version__} torch {torch.__version__}"


def check(device: torch.device, precision: str) -> None:
    """Raise an ``UnavailableError`` where it is absent, or was built for other devices."""
    if precision != "fp32":
        raise UnavailableError(f"onnxruntime computes in fp32 here, not in {precision}")
    try:
        there = _library().get_available_providers()
    except ImportError as error:
        remedy = "pip install 'nestseg[onnx]'"
        raise UnavailableError(f"onnxruntime is not installed: {remedy}") from error
    if _PROVIDERS.get(device.type) not in there:
        raise UnavailableError(f"this onnxruntime does not compute on {device.type}")


def build(task: Task, artefact: bytes = b"") -> Built:
    """Export the network for tiles of one shape; the ONNX file is what is kept."""
    library = _library()
    model = artefact or _exported(task)
    options = library.SessionOptions()
    options.intra_op_num_threads = task.threads
    options.inter_op_num_threads = 1
    # Waiting threads that spin take the cores of other workers.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = [_provider(task.device), "CPUExecutionProvider"]
    session = library.InferenceSession(model, options, providers=list(dict.fromkeys(providers)))
    name = session.get_inputs()[0].name

    def run(x: Tensor) -> list[Tensor]:
        tile = np.ascontiguousarray(x.detach().cpu().numpy(), dtype=np.float32)
        return [torch.from_numpy(z).to(x.device) for z in session.run(None, {name: tile})]

    return Built(run, model)


def _provider(device: torch.device) -> Any:
    name, index = _PROVIDERS[device.type], getattr(device, "index", None)
    return name if index is None else (name, {"device_id": index})


def _exported(task: Task) -> bytes:
    """The network as ONNX, in float32."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses a torchvision, aloud
    heads = Heads(deepcopy(task.network).cpu(), every=task.every_head).eval()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's own use of what torch deprecates
        example = torch.zeros(task.shape)
        program: Any = torch.onnx.export(heads, (example,), dynamo=True, verbose=False)
    content: bytes = program.model_proto.SerializeToString()
    return content


def _library() -> Any:
    import onnx  # noqa: F401, PLC0415  what torch exports with, as the next
    import onnxruntime  # noqa: PLC0415
    import onnxscript  # noqa: F401, PLC0415

    return onnxruntime
