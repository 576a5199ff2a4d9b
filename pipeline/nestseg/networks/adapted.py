"""Networks from elsewhere, MONAI's above all, used like those of the family.

A network of the family carries its geometry and returns its heads as a list, the main one first.
MONAI's carry none, and each returns its heads in a form of its own: ``DynUNet`` stacks them,
``MedNeXt`` returns a tuple, ``SegResNetDS`` a list, ``BasicUNetPlusPlus`` a list with the main head
last, in eval mode too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

import torch
from monai.networks.nets import BasicUNetPlusPlus
from torch import Tensor, nn

from nestseg_prep.geometry import AxisGeometry, Geometry

_LARGE: Final = 192  # voxels per axis: a multiple of every period that is tried
_PERIODS: Final = (1, 2, 4, 8, 16, 32, 64)

_known: WeakKeyDictionary[nn.Module, Geometry] = WeakKeyDictionary()


class Adapted(nn.Module):
    """A network without a geometry, used like one of the family: to predict, not to learn.

    Args:
        network: its output has the size of its input; nothing of it is changed.

    Raises:
        ValueError: as of :func:`found_geometry`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.training = network.training
        if network not in _known:
            _known[network] = found_geometry(network)
        self.geometry = _known[network]

    @property
    def sizes(self) -> str:
        """What goes in, in words."""
        multiples = " × ".join(map(str, self.geometry.period))
        least = " × ".join(str(axis.minimum) for axis in self.geometry.axes)
        return f"it takes multiples of {multiples} voxels from {least} on"

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the main head for ``x`` ``(B, in_channels, *spatial)``."""
        return heads(self.network, x)[0]

    def forward_heads(self, x: Tensor) -> list[Tensor]:
        """Logits of every head that the network gives in this mode, the main one first."""
        return heads(self.network, x)


def adapted(network: Any) -> Any:
    """The network itself if it carries its geometry, else as an :class:`Adapted` one."""
    return network if hasattr(network, "geometry") else Adapted(network)


def heads(network: Any, x: Tensor, *args: Any, **kwargs: Any) -> list[Tensor]:
    """Run a network: the logits of each head that it gives, the main one first.

    Args:
        network: perhaps wrapped by ``DistributedDataParallel`` or ``torch.compile``.
        x: ``(B, in_channels, *spatial)``.
        args: passed on to the network, as are ``kwargs``.
        kwargs: see ``args``.
    """
    out = network(x, *args, **kwargs)
    if isinstance(out, Tensor):  # a stack of heads has an axis more than what went in
        return list(out.unbind(1)) if out.dim() > x.dim() else [out]
    return list(out)[::-1] if isinstance(unwrapped(network), BasicUNetPlusPlus) else list(out)


def unwrapped(network: Any) -> Any:
    """A network without what ``DistributedDataParallel`` and ``torch.compile`` put around it."""
    inner = getattr(network, "_orig_mod", network)
    return getattr(inner, "module", inner)


def found_geometry(network: nn.Module) -> Geometry:
    """Which sizes a network takes, found out by trial: passes that compute shapes alone.

    Args:
        network: in any mode.

    Raises:
        ValueError: its output has another size than its input, or it cannot be tried.
    """
    trial = _Trial(network)
    if why := trial.refusal((_LARGE,) * trial.dims):
        raise ValueError(
            f"{type(network).__name__} carries no geometry, and none could be found by trial: "
            f"{why}; use MONAI's SlidingWindowInferer"
        )
    axes = [trial.along(axis) for axis in range(trial.dims)]
    least = [minimum for _, minimum in axes]
    while trial.refusal(least):  # instance norm takes no map of one voxel
        least = [2 * n for n in least]
    pairs = zip(axes, least, strict=True)
    return Geometry(tuple(AxisGeometry(0, period, 0, n) for (period, _), n in pairs))


class _Trial:
    """Passes of a network on tensors without data."""

    def __init__(self, network: nn.Module) -> None:
        convolutions = (nn.Conv2d, nn.Conv3d)
        first = next((one for one in network.modules() if isinstance(one, convolutions)), None)
        if first is None:
            raise ValueError(
                f"{type(network).__name__} carries no geometry, and has no convolution"
            )
        self.dims = first.weight.dim() - 2
        self._network, self._channels = network, first.in_channels
        tensors = (*network.named_parameters(), *network.named_buffers())
        self._weights = {name: value.detach().to("meta") for name, value in tensors}

    def refusal(self, shape: Sequence[int]) -> str:
        """Why a shape cannot go in, or comes out as another; ``""`` if it passes."""
        x = torch.empty((1, self._channels, *shape), device="meta")
        training = self._network.training
        try:
            self._network.eval()
            with torch.no_grad():
                given = tuple(heads(self._pass, x)[0].shape[2:])
        except Exception as error:  # noqa: BLE001  whatever a network raises
            return f"{type(error).__name__}: {str(error)[:100]}"
        finally:
            self._network.train(training)
        return "" if given == tuple(shape) else f"{tuple(shape)} voxels become {given}"

    def _pass(self, x: Tensor) -> Any:
        # With tied weights, modules that are registered twice (DynUNet's) would never get theirs
        # back.
        return torch.func.functional_call(self._network, self._weights, (x,), tie_weights=False)

    def along(self, axis: int) -> tuple[int, int]:
        """Period and smallest size along an axis."""

        def passes(n: int) -> bool:
            shape = [_LARGE] * self.dims
            shape[axis] = n
            return not self.refusal(shape)

        period = next((one for one in _PERIODS if passes(_LARGE - one)), _LARGE)
        return period, next(n for n in range(period, _LARGE + 1, period) if passes(n))
