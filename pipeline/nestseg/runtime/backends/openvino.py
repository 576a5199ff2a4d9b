"""OpenVINO: the fastest library on CPUs that we know of. It needs the extra ``fast``."""

from __future__ import annotations

import io
import sys
import warnings
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nestseg.runtime import machine
from nestseg.runtime.contract import Built, Heads, Run, Task, UnavailableError

FIXED_SHAPE = True
_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


def version() -> str:
    """Of OpenVINO, with its build."""
    return str(_library().get_version())


def check(device: torch.device, precision: str) -> None:
    """Raise an ``UnavailableError`` where it is absent, or would not compute in this precision."""
    if device.type != "cpu":
        raise UnavailableError(f"openvino computes on the CPU, not on {device.type}")
    try:
        able = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except ImportError as error:
        raise UnavailableError("openvino is not installed: pip install 'nestseg[fast]'") from error
    wanted = {"fp32": "FP32", "bf16": "BF16", "int8": "INT8"}[precision]
    if wanted not in able:
        raise UnavailableError(f"openvino has no {precision} on this CPU")


def build(task: Task, artefact: bytes = b"") -> Built:
    """Compile the network for tiles of one shape."""
    if artefact:
        compiled = core().import_model(io.BytesIO(artefact), "CPU", _config(task))
    else:
        compiled = core().compile_model(_model(task), "CPU", _config(task))
    # From an exported graph nothing is traced again, which takes seconds.
    return Built(_runner(compiled), artefact or compiled.export_model().getvalue())


def converted(heads: Heads, shape: tuple[int, ...]) -> Any:
    """The network as OpenVINO's model, in float32, for tiles of a shape.

    Also what calibration starts from. The weights are copied: shared, as is the default, they would
    turn to garbage (logits of 1e21) where torch's are freed or written before all is compiled.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # it traces, which torch calls deprecated
        return _library().convert_model(
            heads.eval(), example_input=torch.zeros(shape), input=[shape], share_weights=False
        )


@lru_cache(maxsize=1)
def core() -> Any:
    """OpenVINO's one core of this process, which is never let go of.

    Its CPU plugin gives the thread that loads it a stack for signal handlers, and frees that stack
    with the last core, graph or request, in whichever thread this happens (openvino#11894). The
    next signal for which Python has a handler, such as that a child ended, would end the process.
    """
    return _library().Core()


def _model(task: Task) -> Any:
    if task.precision != "int8":
        return converted(Heads(task.network, every=task.every_head), task.shape)
    if task.int8 is None:
        raise UnavailableError("there is no calibrated model: `nestseg bundle quantize` makes one")
    model = core().read_model(task.int8 / "model.xml")
    if not task.every_head:
        for head in model.get_results()[1:]:
            model.remove_result(head)
    if tuple(model.input().get_shape()) != task.shape:
        model.reshape(list(task.shape))
    return model


def _config(task: Task) -> dict[str, Any]:
    # What calibration leaves in floating point takes half the memory in bfloat16.
    halved = task.precision == "int8" and machine.has_bf16(task.device)
    return {
        "INFERENCE_PRECISION_HINT": _HINTS["bf16" if halved else task.precision],
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": task.threads,
        # Pinned, the workers of one machine would all sit on its first cores.
        "ENABLE_CPU_PINNING": False,
    }


def _runner(compiled: Any) -> Run:
    request = compiled.create_infer_request()
    tensor = _library().Tensor
    shapes = [tuple(output.shape) for output in compiled.outputs]

    def run(x: Tensor) -> list[Tensor]:
        # The tile is copied in, and the logits are written where nothing else will be: a request
        # with a place of its own for them would write its next result over the last.
        tile = np.ascontiguousarray(x.detach().numpy(), dtype=np.float32)
        found = [np.empty(shape, np.float32) for shape in shapes]
        for k, place in enumerate(found):
            request.set_output_tensor(k, tensor(place, shared_memory=True))
        request.infer([tile], share_inputs=False)
        return [torch.from_numpy(values) for values in found]

    return run


def silence() -> None:
    """Let the library tell nobody on the internet that it is used.

    Its converter reports to a statistics service unless the module that does so is absent.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def _library() -> Any:
    silence()
    import openvino  # noqa: PLC0415

    return openvino
