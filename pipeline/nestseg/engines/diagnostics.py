"""How much each layer learns, epoch by epoch, as a table and a picture."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from nestseg.engines.picture import draw_layers


@dataclass(frozen=True)
class LayerEpoch:
    """One layer in one epoch.

    Attributes:
        epoch: from 1 on.
        layer: the layer's name in the network.
        update: mean of abs(W - W before the epoch).
        gradient: mean of abs(dL/dW), over the weights and the epoch's iterations.
    """

    epoch: int
    layer: str
    update: float
    gradient: float


class LayerDiagnostics:
    """Records weight updates and gradients of every convolution, as an ignite handler.

    Drozdzal et al. 2016 show which layers of a deep network learn by the size of their weight
    updates, layers by epochs. With RMSprop, which the paper used, and Adam
    every layer takes steps of much the same size however small its gradient, so the updates alone
    look healthy where gradients vanish or explode: both are recorded and drawn.

    After every epoch ``layers.csv`` (one line per layer and epoch) and ``layers.png`` in the output
    folder hold everything so far. Costs one pass over the gradients per iteration, and a copy of
    the weights.

    Args:
        network: whose convolutions are watched, in the order of its modules; frozen ones are not.
        output_dir: is made if it is not there.

    Raises:
        ValueError: no convolution has weights to train.
    """

    def __init__(self, network: nn.Module, output_dir: str | Path) -> None:
        self.weights: dict[str, Tensor] = {
            name: module.weight
            for name, module in network.named_modules()
            if isinstance(module, nn.modules.conv._ConvNd) and module.weight.requires_grad
        }
        if not self.weights:
            raise ValueError("no convolution has weights to train")
        self.output_dir = Path(output_dir)
        self.records: list[LayerEpoch] = []
        self._before: list[Tensor] = []
        self._gradients: list[Tensor] = []  # sums over iterations, left on the device
        self._iterations = 0

    def attach(self, engine: Engine) -> None:
        """Add the handlers to a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        # Behind the optimizer's step: a gradient scaler has taken its factor out again by then.
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add_gradients)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish)

    @torch.no_grad()
    def _start(self) -> None:
        self._before = [weight.clone() for weight in self.weights.values()]
        self._gradients = [torch.zeros((), device=weight.device) for weight in self._before]
        self._iterations = 0

    @torch.no_grad()
    def _add_gradients(self) -> None:
        self._iterations += 1
        for place, weight in enumerate(self.weights.values()):
            if weight.grad is not None:  # none where no head depends on the layer
                self._gradients[place] += weight.grad.abs().mean()

    @torch.no_grad()
    def _finish(self, engine: Engine) -> None:
        weights = self.weights.values()
        updates = [(w - old).abs().mean() for w, old in zip(weights, self._before, strict=True)]
        gradients = [total / max(self._iterations, 1) for total in self._gradients]
        for layer, update, gradient in zip(self.weights, updates, gradients, strict=True):
            epoch = int(engine.state.epoch)
            self.records.append(LayerEpoch(epoch, layer, float(update), float(gradient)))
        self._write()

    def _write(self) -> None:
        self.output_dir.mkdir(parents=True, exist_ok=True)
        with (self.output_dir / "layers.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["epoch", "layer", "update", "gradient"])
            table.writerows([r.epoch, r.layer, r.update, r.gradient] for r in self.records)
        picture = draw_layers(
            list(self.weights),
            {
                "mean abs(update)": self._rows([r.update for r in self.records]),
                "mean abs(gradient)": self._rows([r.gradient for r in self.records]),
            },
        )
        picture.save(self.output_dir / "layers.png", optimize=True)

    def _rows(self, values: list[float]) -> list[list[float]]:
        """Layers × epochs, of values that were recorded epoch by epoch."""
        return [values[place :: len(self.weights)] for place in range(len(self.weights))]
