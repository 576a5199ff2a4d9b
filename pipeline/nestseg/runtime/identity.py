"""By what a network is told from every other: what was built of one is of no use to another."""

from __future__ import annotations

import hashlib
import inspect
import json
from typing import Any

from torch import nn

_PLAIN = (bool, int, float, str, tuple, list, type(None))


def network_digest(network: nn.Module, weights_sha256: str) -> str:
    """SHA-256 of a network: its modules, what they were told, their code, and its weights' digest.

    Args:
        network: built.
        weights_sha256: of the file that its weights came from; the weights are not read again.
    """
    digest = hashlib.sha256(weights_sha256.encode())
    codes = {kind: _code(kind) for kind in {type(module) for module in network.modules()}}
    for name, module in network.named_modules():
        told = {key: value for key, value in vars(module).items() if isinstance(value, _PLAIN)}
        shapes = [(key, list(one.shape)) for key, one in _tensors(module)]
        line = [name, repr(type(module)), codes[type(module)], told, shapes]
        digest.update(json.dumps(line, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def key(**parts: Any) -> str:
    """One name for all that an artefact depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _tensors(module: nn.Module) -> list[tuple[str, Any]]:
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    return sorted(own, key=lambda pair: pair[0])


def _code(kind: type) -> str:
    """Digest of the source of a class, which a bundle may have brought along."""
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):
        source = ""
    return hashlib.sha256(source.encode()).hexdigest()
