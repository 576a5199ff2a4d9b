"""TensorRT, by ``torch_tensorrt``: on NVIDIA's GPUs, minutes to compile, kept afterwards."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

from nestseg.runtime.backends import eager
from nestseg.runtime.contract import Built, Heads, Task, UnavailableError
from nestseg.runtime.folding import folded

FIXED_SHAPE = True
_KINDS = {"fp32": torch.float32, "bf16": torch.bfloat16}
_FILE = "engine.ep"


def version() -> str:
    """Of torch_tensorrt, and of torch."""
    return f"{_library().__version__} torch {torch.__version__}"


def check(device: torch.device, precision: str) -> None:
    """Raise an ``UnavailableError`` where it is absent, or the device is no GPU of NVIDIA's."""
    if device.type != "cuda":
        raise UnavailableError(f"tensorrt computes on cuda, not on {device.type}")
    if precision not in _KINDS:
        raise UnavailableError(f"tensorrt computes in fp32 or bf16 here, not in {precision}")
    try:
        _library()
    except ImportError as error:
        remedy = "pip install torch-tensorrt"
        raise UnavailableError(f"torch_tensorrt is not installed: {remedy}") from error


def build(task: Task, artefact: bytes = b"") -> Built:
    """Compile the network for tiles of one shape, each layer in the numbers of its weights."""
    library = _library()
    kind = _KINDS[task.precision]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / _FILE
        if artefact:
            path.write_bytes(artefact)
        else:
            _compile(library, task, kind, path)
            artefact = path.read_bytes()
        network: Any = library.load(str(path)).module()
    return Built(eager.calling(network, task), artefact)


def _compile(library: Any, task: Task, kind: torch.dtype, path: Path) -> None:
    heads = Heads(folded(task.network).to(task.device, kind), every=task.every_head).eval()
    example = torch.zeros(task.shape, dtype=kind, device=task.device)
    with torch.no_grad():
        program = torch.export.export(heads, (example,), strict=False)
        engine = library.dynamo.compile(
            program,
            inputs=[example],
            use_explicit_typing=True,
            disable_tf32=task.precision == "fp32",  # ten bits of mantissa are not float32
            min_block_size=1,
        )
    library.save(engine, str(path), inputs=[example])


def _library() -> Any:
    import torch_tensorrt  # noqa: PLC0415

    return torch_tensorrt
