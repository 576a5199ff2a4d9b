"""Batch norms made part of the convolutions before them, which changes nothing but rounding.

An instance norm takes its means from the image, so it cannot be folded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.fusion import fuse_conv_bn_eval

_Place = tuple[nn.Module, str, nn.Module]  # parent, name in it, module


def folded(network: nn.Module) -> nn.Module:
    """A copy in eval mode whose batch norms behind convolutions of the same chain are gone.

    Only chains of ``nn.Sequential`` are looked at, since only these say what runs after what.
    """
    copied = deepcopy(network).eval()
    uses = Counter(id(module) for _, module in copied.named_modules(remove_duplicate=False))
    for module in list(copied.modules()):
        if not _is_chain(module):
            continue
        for (parent, name, conv), (norm_parent, norm_name, norm) in pairwise(list(_links(module))):
            if _fit(conv, norm) and uses[id(conv)] == uses[id(norm)] == 1:
                setattr(parent, name, _fused(conv, norm))
                setattr(norm_parent, norm_name, nn.Identity())
    return copied


def _links(chain: nn.Module) -> Iterator[_Place]:
    """What a chain runs, one after the other, the chains in it taken apart."""
    for name, module in chain.named_children():
        if _is_chain(module):
            yield from _links(module)
        else:
            yield chain, name, module


def _is_chain(module: nn.Module) -> bool:
    return type(module).forward is nn.Sequential.forward and not _hooked(module)


def _fit(conv: nn.Module, norm: nn.Module) -> bool:
    return (
        isinstance(conv, _ConvNd)
        and isinstance(norm, _BatchNorm)
        and norm.running_mean is not None
        and not (isinstance(conv, _ConvTransposeNd) and conv.groups > 1)
        and not (_hooked(conv) or _hooked(norm))
    )


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _fused(conv: Any, norm: Any) -> nn.Module:
    """Both in one, multiplied out in float64."""
    kind = conv.weight.dtype
    transpose = isinstance(conv, _ConvTransposeNd)
    fused: nn.Module = fuse_conv_bn_eval(
        conv.to(torch.float64), norm.to(torch.float64), transpose=transpose
    )
    return fused.to(kind)
