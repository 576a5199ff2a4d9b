"""Which Python objects the configs of a bundle may name."""

from __future__ import annotations

import difflib
import importlib
from functools import cache
from types import ModuleType
from typing import Any

import torch
from monai.bundle import ComponentLocator

from nestseg.bundle import allowed

NOT_LISTED = "is not on the list of what a bundle may call"


class RefusedNameError(ValueError):
    """A name that is refused, or that names nothing; the message begins with it."""


def check_target(target: str, *, in_expression: bool = False) -> None:
    """Judge the value of a ``_target_``, found as MONAI finds it.

    Args:
        target: a dotted name, or the bare name of a component of MONAI.
        in_expression: whether it is passed on uncalled, so that its arguments cannot be read.

    Raises:
        RefusedNameError: it is refused, or there is no such thing.
    """
    if "." in target:
        check_object(target, in_expression=in_expression)
        return
    modules = _components().get_component_module_name(target)
    if modules is None:
        near = difflib.get_close_matches(target, _components()._components_table or {}, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise RefusedNameError(f"{target} is no component of MONAI{hint}")
    for module in [modules] if isinstance(modules, str) else modules:
        check_object(f"{module}.{target}", shown=target, in_expression=in_expression)


def check_object(path: str, *, shown: str = "", in_expression: bool = False) -> None:
    """Judge a dotted name: as it is written, and by where the object is defined.

    Nothing is imported that the list does not allow.

    Args:
        path: such as ``torch.nn.Conv3d``.
        shown: what to call it in messages; by default ``path``.
        in_expression: whether an expression names it, where its arguments cannot be read.

    Raises:
        RefusedNameError: it is refused, is a module, or there is no such thing.
    """
    shown = shown or path
    _check_written(path, shown)
    if path in allowed.NAMES and not path.startswith("torch."):
        return  # Python's own, among them `os.path`, which has another name in reality
    found = _resolve(path, shown)
    if isinstance(found, ModuleType):
        raise RefusedNameError(f"{shown} is a module, which a bundle may not pass around")
    home, name = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
    if not isinstance(home, str) or not isinstance(name, str):
        return
    defined = f"{home}.{name}"
    roots = {entry.split(".")[0] for entry in allowed.BRANCHES | allowed.MEMBERS_OF}
    if home.split(".")[0].lstrip("_") not in roots:
        raise RefusedNameError(f"{shown} is {defined}, which {NOT_LISTED}")
    if (reason := _refusal(defined)) is not None:
        raise RefusedNameError(f"{shown} {NOT_LISTED}: {reason}")
    if in_expression and _prefix(defined, allowed.ONLY_AS_TARGET):
        raise RefusedNameError(
            f"{shown} may stand in a `_target_` only, where its arguments are read"
        )


def check_import(path: str) -> None:
    """Judge what an import statement names: something allowed, or a module that leads to it.

    Raises:
        RefusedNameError: nothing that is allowed is there.
    """
    listed = allowed.BRANCHES | allowed.NAMES | {f"{m}.x" for m in allowed.MEMBERS_OF} | {"torch.x"}
    leads = any(entry.startswith(f"{path}.") for entry in listed)
    if leads:
        return
    _check_written(path, path)
    if path not in allowed.NAMES and not isinstance(_resolve(path, path), ModuleType):
        check_object(path)


def check_attribute(name: str) -> None:
    """Judge an attribute of whatever an expression computes.

    Raises:
        RefusedNameError: it is never allowed.
    """
    if name in allowed.NEVER or name.startswith(allowed.NEVER_PREFIXES):
        raise RefusedNameError(f"`.{name}` {NOT_LISTED}")


def _check_written(path: str, shown: str) -> None:
    parts = path.split(".")
    if not all(part.isidentifier() and part.isascii() for part in parts):
        raise RefusedNameError(f"{shown} is not the name of a Python object")
    if path in allowed.NAMES:
        return
    if any(p in allowed.NEVER or p.startswith(allowed.NEVER_PREFIXES) for p in parts):
        raise RefusedNameError(f"{shown} {NOT_LISTED}")
    if (reason := _refusal(path)) is not None:
        raise RefusedNameError(f"{shown} {NOT_LISTED}: {reason}")
    parent = path.rpartition(".")[0]
    if _prefix(path, allowed.BRANCHES) or parent in allowed.MEMBERS_OF:
        return
    if _prefix(path, {name for name in allowed.NAMES if name.startswith("torch.")}):
        return
    if parent == "torch" and isinstance(
        getattr(torch, parts[1], None), (torch.dtype, torch.memory_format, torch.layout)
    ):
        return
    raise RefusedNameError(f"{shown} {NOT_LISTED}")


def _refusal(path: str) -> str | None:
    found = _prefix(path, allowed.REFUSED)
    return allowed.REFUSED[found] if found else None


def _prefix(path: str, entries: Any) -> str:
    """The longest entry that a dotted name starts with, or nothing."""
    fitting = (entry for entry in entries if path == entry or path.startswith(f"{entry}."))
    return max(fitting, key=len, default="")


def _resolve(path: str, shown: str) -> object:
    first, *rest = path.split(".")
    try:
        found: object = importlib.import_module(first)
    except ImportError:
        raise RefusedNameError(f"{shown} needs {first}, which is not installed") from None
    name = first
    for part in rest:
        name = f"{name}.{part}"
        if isinstance(found, ModuleType) and not hasattr(found, part):
            try:
                importlib.import_module(name)
            except ImportError:
                near = difflib.get_close_matches(part, dir(found), n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise RefusedNameError(f"{shown} does not exist{hint}") from None
        if not hasattr(found, part):
            raise RefusedNameError(f"{shown} does not exist")
        found = getattr(found, part)
        # A module seen through another module is not what the list speaks of.
        if isinstance(found, ModuleType) and found.__name__ != name:
            raise RefusedNameError(f"{shown} {NOT_LISTED}")
    return found


@cache
def _components() -> ComponentLocator:
    return ComponentLocator()
