"""What a transform does, as plain data: two that are described alike compute the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from enum import Enum
from functools import partial
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor

_PLAIN = (bool, int, float, str, type(None))


def describe(item: Any) -> Any:
    """A transform with all its settings, as something that JSON holds.

    A config's text would not do: the same text means another thing when an option that it refers to
    is overridden. Sources of randomness are left out.

    Args:
        item: a transform, or anything that one is made of.

    Raises:
        TypeError: there is something in it whose value cannot be seen.
    """
    return _describe(item, ())


def _describe(item: Any, parents: tuple[int, ...]) -> Any:
    if isinstance(item, _PLAIN) and not isinstance(item, Enum):
        return item
    if id(item) in parents:
        return "its owner"
    inside = (*parents, id(item))
    if isinstance(item, Mapping):
        return {str(key): _describe(value, inside) for key, value in item.items()}
    if isinstance(item, list | tuple):
        return [_describe(value, inside) for value in item]
    if isinstance(item, AbstractSet):
        return sorted((_describe(value, inside) for value in item), key=repr)
    return _value(item) or _object(item, inside)


def _value(item: Any) -> Any:
    """Of what has one, but none that JSON knows."""
    if isinstance(item, np.random.RandomState):
        return "randomness"
    if isinstance(item, np.ndarray | np.generic | Tensor):
        return _array(item)
    if isinstance(item, Enum | torch.dtype | torch.device | np.dtype | Path | range | slice):
        return str(item)
    return None


def _object(item: Any, parents: tuple[int, ...]) -> Any:
    if isinstance(item, type | BuiltinFunctionType | np.ufunc):
        return f"{getattr(item, '__module__', '')}.{item.__name__}"
    if isinstance(item, FunctionType):
        cells = [cell.cell_contents for cell in item.__closure__ or ()]
        bound = [_describe(part, parents) for part in (item.__defaults__, cells)]
        return {"function": item.__qualname__, "code": _code(item.__code__), "bound": bound}
    if isinstance(item, MethodType):
        return [item.__name__, _describe(item.__self__, parents)]
    if isinstance(item, partial):
        return [_describe(part, parents) for part in (item.func, item.args, item.keywords)]
    if not hasattr(item, "__dict__"):
        raise TypeError(f"a {type(item).__name__} says nothing about its value")
    name = f"{type(item).__module__}.{type(item).__qualname__}"
    return {"class": name} | {k: _describe(v, parents) for k, v in sorted(vars(item).items())}


def _array(item: Any) -> dict[str, Any]:
    array = item.detach().cpu().numpy() if isinstance(item, Tensor) else np.asarray(item)
    content = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return {"dtype": str(array.dtype), "shape": list(array.shape), "sha256": content}


def _code(code: CodeType) -> str:
    constants = [
        _code(c)
        if isinstance(c, CodeType)
        else repr(sorted(c, key=repr) if isinstance(c, frozenset) else c)
        for c in code.co_consts
    ]
    content = repr((code.co_code, constants, code.co_names))
    return hashlib.sha256(content.encode()).hexdigest()
