"""When a training validates for the last time, and when it ends early."""

from __future__ import annotations

from ignite.engine import Engine, Events
from monai.engines import Evaluator

from nestseg_prep.errors import InputError


class LastValidation:
    """Validate behind the last epoch, whatever the interval between validations.

    Where the interval is longer than the training, MONAI's ``ValidationHandler`` alone validates
    never and no weights are kept, without a word.

    Args:
        validator: the evaluator of MONAI's ``ValidationHandler``, which goes before this handler.
    """

    def __init__(self, validator: Evaluator) -> None:
        self.validator = validator

    def attach(self, engine: Engine) -> None:
        """Add the handler to a trainer."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._validate)

    def _validate(self, engine: Engine) -> None:
        epoch = engine.state.epoch
        if epoch == engine.state.max_epochs and self.validator.state.epoch != epoch:
            self.validator.run(epoch)


class EarlyStop:
    """End the training when the key metric has not grown for a number of validations.

    MONAI's ``EarlyStopHandler`` wants the trainer before there is one, and a resumed training
    starts its count anew; the evaluator knows the epoch of its best by itself.

    Args:
        validator: the evaluator of MONAI's ``ValidationHandler``, which goes before this handler.
        patience: validations without a new best.
        interval: epochs between two validations.

    Raises:
        InputError: less than 1 validation.
    """

    def __init__(self, validator: Evaluator, patience: int, interval: int) -> None:
        if patience < 1:
            raise InputError(f"early stopping after {patience} validations; give at least 1")
        self.validator = validator
        self.epochs = patience * interval

    def attach(self, engine: Engine) -> None:
        """Add the handler to a trainer."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._check)

    def _check(self, engine: Engine) -> None:
        epoch, best = self.validator.state.epoch, self.validator.state.best_metric_epoch
        if epoch == engine.state.epoch and epoch >= best + self.epochs:
            engine.logger.info("Early stop at epoch %d: the best was at %d", epoch, best)
            engine.terminate()
