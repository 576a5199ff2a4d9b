"""Fine-tuning a bundle on what people labelled, as a training task of MONAI Label."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from monailabel.interfaces.tasks.train import TrainTask

from nestseg.bundle import keeper
from nestseg.bundle.info import read_info
from nestseg.label import caged, training
from nestseg.label.cases import split, usable
from nestseg.label.work import Work
from nestseg_prep.errors import InputError


class FineTune(TrainTask):
    """Trains from the present weights; publishes if no worse on the cases that validate.

    Args:
        bundle: working copy of the bundle.
        work: where the training runs.
    """

    def __init__(self, bundle: Path, work: Work) -> None:
        self._bundle, self._work = bundle, work
        self._info = read_info(bundle)
        super().__init__(f"Fine-tune {bundle.name}; published only if no worse than before")

    def config(self) -> dict[str, Any]:
        """What a person may set."""
        return {"max_epochs": 20, "val_split": 0.2, "early_stop": 0, "from_scratch": False}

    def stats(self) -> dict[str, Any]:
        """The last training, as 3D Slicer shows it."""
        history = training.history(self._bundle)
        if not history:
            return {}
        last = history[-1]
        best = last["dice"] if last["published"] else last["dice_before"]
        return {self._bundle.name: {**last, "best_metric": best, "epoch": last["total_epochs"]}}

    def __call__(self, request: dict[str, Any], datastore: Any) -> dict[str, Any]:
        """Train on every final label; in a process of its own.

        Raises:
            InputError: too few labels that can be used, or a config that cannot.
        """
        start = time.monotonic()
        options = training.Options(
            epochs=_whole(request, "max_epochs", self.config(), least=1),
            early_stop=_whole(request, "early_stop", self.config(), least=0),
            from_scratch=str(request.get("from_scratch", False)).lower() == "true",
        )
        part = float(request.get("val_split", self.config()["val_split"]))
        with keeper.scratch(self._work.runs, "") as folder:
            found, left = usable(
                datastore.labelled(), max(self._info.labels), self._info.selection, folder
            )
            for line in left:
                print(f"left out: {line}", flush=True)
            learn, check = split([case.id for case in found], part)
            by_id = {case.id: case for case in found}
            validation = [by_id[one] for one in check]
            in_cage = self._bundle.name in self._work.caged
            train = caged.train if in_cage else training.train
            trained = train(
                self._bundle, [by_id[one] for one in learn], validation, options, folder / "run"
            )
            result = training.publish_if_not_worse(self._bundle, trained, validation, caged=in_cage)
        result |= {
            "training_cases": len(learn),
            "validation_cases": len(check),
            "left_out": len(left),
            "total_epochs": options.epochs,
            "total_time": str(round(time.monotonic() - start, 1)),
        }
        training.remember(self._bundle, result)
        said = "published" if result["published"] else "worse, so not published"
        print(f"{said}: Dice {result['dice']} after, {result['dice_before']} before", flush=True)
        return result


def _whole(request: dict[str, Any], name: str, defaults: dict[str, Any], least: int) -> int:
    value = request.get(name, defaults[name])
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = least - 1
    if number < least:
        raise InputError(f"{name}: give a whole number from {least} up")
    return number
