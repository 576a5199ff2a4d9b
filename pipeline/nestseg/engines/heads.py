"""What each head of a network learns: its loss in training, its Dice in validation.

The figures stand among the engine's metrics, where MONAI's handlers for the log, TensorBoard and
MLflow find them; these handlers go before those.
"""

from __future__ import annotations

from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.engines import IterationEvents
from monai.metrics import DiceMetric
from monai.networks.utils import one_hot
from torch import Tensor, nn


class HeadLosses:
    """Means over an epoch: ``train_loss``, and ``train_loss_head_1``, … (the main head is 1).

    Args:
        loss: the trainer's; of several heads if it holds the loss of one head as ``loss``.
    """

    def __init__(self, loss: nn.Module) -> None:
        self.of_one_head = getattr(loss, "loss", None)
        self._heads: list[Tensor] = []
        self._sums = torch.zeros(0)
        self._iterations = 0

    def attach(self, engine: Engine) -> None:
        """Add the handlers to a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish)
        if isinstance(self.of_one_head, nn.Module):
            self.of_one_head.register_forward_hook(self._listen)

    def _listen(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self._heads.append(output.detach().mean())

    def _start(self) -> None:
        self._heads, self._sums, self._iterations = [], torch.zeros(0), 0

    def _add(self, engine: Any) -> None:
        total = engine.state.output["loss"].detach()
        several = self._heads if len(self._heads) > 1 else []
        losses = torch.stack([total, *several]).float()
        self._heads = []
        self._sums = losses if not self._iterations else self._sums + losses
        self._iterations += 1
        engine.state.output = [engine.state.output]  # MONAI's MLflow handler wants one per image

    def _finish(self, engine: Any) -> None:
        if not self._iterations:
            return
        mean = self._sums / (self._iterations * idist.get_world_size())
        if idist.get_world_size() > 1:
            mean = torch.as_tensor(idist.all_reduce(mean))
        total, *heads = mean.tolist()
        engine.state.metrics["train_loss"] = total
        for number, value in enumerate(heads, start=1):
            engine.state.metrics[f"train_loss_head_{number}"] = value


class HeadDice:
    """Mean Dice of every head as ``val_mean_dice_head_1``, … (the main head is 1).

    For an evaluator whose inferer is :class:`nestseg.inferers.EveryHeadInferer`: it leaves the main
    head's logits as the prediction, for all that comes behind. A network with one head has no such
    figures besides the key metric.

    A voxel belongs to the class of the largest logit, or with one channel to the foreground above
    0. The background does not count, and neither does a class that the label does not hold.
    """

    def __init__(self) -> None:
        self._dice: list[DiceMetric] = []

    def attach(self, engine: Engine) -> None:
        """Add the handlers to an evaluator."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish)

    def _start(self) -> None:
        self._dice = []

    def _add(self, engine: Any) -> None:
        heads = engine.state.output["pred"]
        if not isinstance(heads, list):
            return
        engine.state.output["pred"] = heads[0]
        if len(heads) < 2:
            return
        self._dice = self._dice or [DiceMetric(include_background=False) for _ in heads]
        classes = max(heads[0].shape[1], 2)
        truth = one_hot(engine.state.output["label"], classes)
        for dice, logits in zip(self._dice, heads, strict=True):
            chosen = logits.argmax(1, keepdim=True) if logits.shape[1] > 1 else logits > 0
            dice(one_hot(chosen, classes), truth)

    def _finish(self, engine: Any) -> None:
        for number, dice in enumerate(self._dice, start=1):
            engine.state.metrics[f"val_mean_dice_head_{number}"] = float(
                torch.as_tensor(dice.aggregate())
            )
