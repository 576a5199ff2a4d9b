"""Everything that a training must remember to go on as if it had never been interrupted."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator
from monai.handlers import CheckpointSaver
from monai.transforms import Randomizable

from nestseg_prep.disk import sync_folder
from nestseg_prep.errors import InputError


class Stateful(Protocol):
    """A network, an optimizer, a schedule."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Any) -> Any: ...


class TrainingState:
    """Write the state of a training behind every epoch, and go on from it.

    MONAI's ``CheckpointSaver`` cannot hold the trainer that it belongs to (a circular reference in
    a config), keeps no random streams, and forgets which score ``model.pt`` reached: the first
    validation of a resumed training would replace it by something worse.

    A resumed training repeats an uninterrupted one bit by bit, on one process and on a device whose
    arithmetic is deterministic. With several processes the first writes the file, and the random
    streams of the others start anew.

    Args:
        path: of the file; replaced when the new one is whole.
        parts: name → what is saved and restored.
        validator: whose best score is kept; it validates before this handler is called.
        saver: that writes the best weights.
        transform: of the training cases; its random streams are kept.
        resume: whether to go on from the file.
        rank: of this process.

    Raises:
        InputError: at the start, where the file is missing, damaged, or made by a training of
            another network or length.
    """

    def __init__(
        self,
        path: str | Path,
        parts: Mapping[str, Stateful],
        validator: Evaluator,
        saver: CheckpointSaver,
        transform: object,
        resume: bool = False,
        rank: int = 0,
    ) -> None:
        self.path = Path(path)
        self.parts = parts
        self.validator = validator
        self.saver = saver
        self.streams = random_streams(transform)
        self.resume = resume
        self.rank = rank

    def attach(self, engine: Engine) -> None:
        """Add the handlers to a trainer."""
        if self.resume:
            engine.add_event_handler(Events.STARTED, self._restore)
        if self.rank == 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)

    def _save(self, engine: Engine) -> None:
        state = {
            "epoch": engine.state.epoch,
            "epochs": engine.state.max_epochs,
            "best": [self.validator.state.best_metric, self.validator.state.best_metric_epoch],
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "random": self._read_streams(),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = self.path.with_name(f".{self.path.name}.part")
        with whole.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        whole.replace(self.path)
        sync_folder(self.path.parent)

    def _restore(self, engine: Engine) -> None:
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise InputError(f"{self.path}: no training to resume; leave out `resume`") from None
        except Exception as error:  # torch raises a dozen kinds for a damaged file
            raise InputError(f"{self.path}: damaged; start the training again") from error
        done, planned, wanted = state["epoch"], state["epochs"], engine.state.max_epochs
        if planned != wanted or done == planned:
            raise InputError(
                f"{self.path}: {done} of {planned} epochs are done, {wanted} are asked for; a "
                "training is resumed at its own length, `finetune` goes on from finished weights"
            )
        try:
            for name, part in self.parts.items():
                part.load_state_dict(state["parts"][name])
        except (KeyError, ValueError, RuntimeError) as error:
            raise InputError(f"{self.path}: made by another network; resume that one") from error
        engine.state.epoch = done
        engine.state.iteration = done * engine.state.epoch_length
        self._restore_best(*state["best"])
        if self.rank == 0:
            self._write_streams(state["random"])
        engine.logger.info("Resumed behind epoch %d of %d", done, planned)

    def _restore_best(self, metric: float, epoch: int) -> None:
        checkpoint: Any = self.saver._key_metric_checkpoint
        kept = checkpoint.save_handler.filename
        if epoch < 1 or not (Path(self.saver.save_dir) / kept).is_file():
            return
        self.validator.state.best_metric = metric
        self.validator.state.best_metric_epoch = epoch
        self.saver.load_state_dict({"_saved": [(metric, kept)]})

    def _read_streams(self) -> dict[str, Any]:
        return {
            "python": random.getstate(),
            "numpy": _numbers(np.random.get_state()),  # noqa: NPY002  what MONAI seeds
            "transforms": [_numbers(stream.get_state()) for stream in self.streams],
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def _write_streams(self, saved: dict[str, Any]) -> None:
        random.setstate(saved["python"])
        np.random.set_state(_legacy(saved["numpy"]))  # noqa: NPY002
        for stream, state in zip(self.streams, saved["transforms"], strict=True):
            stream.set_state(_legacy(state))
        torch.set_rng_state(saved["torch"])
        if len(saved["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(saved["cuda"])


def random_streams(transform: object) -> list[np.random.RandomState]:
    """The random streams of a transform and of all that it is made of, in a fixed order."""
    streams: dict[int, np.random.RandomState] = {}
    seen: set[int] = set()

    def visit(item: object) -> None:
        if id(item) in seen:
            return
        seen.add(id(item))
        if isinstance(item, Randomizable):
            streams.setdefault(id(item.R), item.R)
        if isinstance(item, (list, tuple)):
            children = list(item)
        else:
            children = list(getattr(item, "__dict__", {}).values())
        for child in children:
            if isinstance(child, (list, tuple)) or type(child).__module__.startswith(
                ("monai.transforms", "nestseg")
            ):
                visit(child)

    visit(transform)
    return list(streams.values())


def _numbers(state: Any) -> list[Any]:
    """A NumPy stream's state as what ``torch.load`` reads without running code."""
    kind, key, *rest = state
    return [kind, torch.from_numpy(key.astype(np.int64)), *rest]


def _legacy(saved: list[Any]) -> tuple[Any, ...]:
    kind, key, *rest = saved
    return (kind, key.numpy().astype(np.uint32), *rest)
