"""Fine-tuning: a training that starts from the weights of another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ignite.engine import Engine, Events
from monai.networks.utils import copy_model_state
from torch import nn

from nestseg.networks.weights import read_state_dict, translate
from nestseg_prep.errors import InputError


class StartWeights:
    """Copy the weights of a file into a network before the first epoch, wherever they fit.

    The file may be of another project, as :func:`nestseg.networks.load_weights` takes it.
    A tensor that the network lacks or has in another shape (the last layer, for other classes)
    stays as it was initialised. MONAI's ``CheckpointLoader(strict_shape=False)`` does the same
    for files that hold more than one network, and nothing at all, silently, for a plain state dict.

    Args:
        path: a state dict.
        networks: the network, and those that follow it (its moving average).

    Raises:
        InputError: the file is missing or holds no weights; at the start, none of them fits.
    """

    def __init__(self, path: str | Path, networks: Sequence[nn.Module]) -> None:
        self.path = Path(path)
        try:
            self.weights = read_state_dict(self.path)
        except ValueError as error:
            raise InputError(str(error)) from error
        self.networks = list({id(network): network for network in networks}.values())

    def attach(self, engine: Engine) -> None:
        """Add the handler to a trainer."""
        engine.add_event_handler(Events.STARTED, self._copy)

    def _copy(self, engine: Engine) -> None:
        for network in self.networks:
            try:
                weights, notes = translate(network, self.weights)
            except ValueError as error:
                raise InputError(f"{self.path}: {error}") from error
            _, copied, left = copy_model_state(network, weights)
            if not copied:
                raise InputError(f"{self.path}: no weight fits this network; name another file")
        for note in notes:
            engine.logger.info("%s: %s", self.path.name, note)
        engine.logger.info(
            "%d tensors from %s, %d start anew", len(copied), self.path.name, len(left)
        )
