"""What goes wrong with somebody's input, said in one line."""

from __future__ import annotations

import math
from typing import Any


class InputError(ValueError):
    """An input that we refuse, or an output that we cannot write.

    The message is one line: what is wrong, and how to mend it. It never holds what a DICOM tag
    says about a patient.
    """


def describe(error: BaseException) -> str:
    """Say in one line what went wrong: our own messages as they are, of others only the kind.

    Foreign messages quote the value they are about, and values of headers are a patient's.
    """
    root = error
    while root.__cause__ is not None and not isinstance(root, InputError):
        root = root.__cause__
    line = (str(root).strip().splitlines() or [""])[0]
    if isinstance(root, InputError):
        return line
    if isinstance(root, MemoryError):
        return "out of memory; run it on a machine with more"
    if isinstance(root, OSError):  # its text holds the path, and folders are named after patients
        return f"{type(root).__name__}: {root.strerror}"
    return type(root).__name__


def check_number(name: str, value: Any, least: float, *, whole: bool = False) -> None:
    """Pass if an option holds a finite number that is not below ``least``.

    Args:
        name: of the option.
        value: what was given.
        least: the smallest number that is allowed.
        whole: allow integers only.

    Raises:
        InputError: the value is not such a number; one line.
    """
    kinds = int if whole else (int, float)
    proper = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
    if not proper or value < least:
        kind = "whole number" if whole else "number"
        raise InputError(f"{name} {value!r}: give a {kind} from {least:g} up")


def check_bool(name: str, value: Any) -> None:
    """Pass if an option holds ``True`` or ``False``.

    Raises:
        InputError: it holds something else; one line.
    """
    if not isinstance(value, bool):
        raise InputError(f"{name} {value!r}: give True or False")
