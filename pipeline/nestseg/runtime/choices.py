"""What a person may choose: in which numbers a network computes, and by which library. No torch."""

from __future__ import annotations

from typing import Literal, get_args

from nestseg_prep.errors import InputError

Precision = Literal["auto", "fp32", "bf16", "int8"]
Runtime = Literal["auto", "torch", "compile", "openvino", "onnxruntime", "tensorrt"]


def check(precision: str, runtime: str) -> None:
    """Pass if both are known, and go together.

    Raises:
        InputError: they are not; the line lists what there is.
    """
    for what, given, known in (
        ("precision", precision, get_args(Precision)),
        ("runtime", runtime, get_args(Runtime)),
    ):
        if given not in known:
            raise InputError(f"{what} {given!r}: give one of {', '.join(known)}")
    if precision == "int8" and runtime not in ("auto", "openvino"):
        raise InputError(f"precision int8 is computed by openvino, not by {runtime}")
