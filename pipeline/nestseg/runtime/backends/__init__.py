"""One module for each library; see :class:`nestseg.runtime.contract.Backend`."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from nestseg.runtime.contract import Backend

_MODULES = {
    "torch": "eager",
    "compile": "compiled",
    "openvino": "openvino",
    "onnxruntime": "onnxruntime",
    "tensorrt": "tensorrt",
}


def backend(name: str) -> Backend:
    """The backend of a runtime by its name, ``"auto"`` aside."""
    return cast(Backend, import_module(f"{__name__}.{_MODULES[name]}"))
