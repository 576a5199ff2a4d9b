"""Scoring methods and strategies of MONAI Label: which image is worth a person's time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy

from nestseg.label import caged as cages
from nestseg.label.models import digest
from nestseg.label.scores import Scores
from nestseg.label.uncertainty import Measure, Uncertainty
from nestseg_prep.errors import InputError, describe
from nestseg_prep.images import read_image
from nestseg_prep.volume import Volume

_SERVED: Final = 3600.0
_FAILED: Final = -1.0  # comes last, and is not tried again with the same weights
_TEXTS: Final = {
    "head_disagreement": "how far the heads of one network disagree",
    "ensemble_disagreement": "how far the U-Nets of an ensemble disagree",
    "entropy": "how undecided the probabilities are",
}
_LOG: Final = logging.getLogger(__name__)


def method_name(bundle: Path, measure: Measure) -> str:
    """What a scoring method and its strategy are called."""
    return f"{bundle.name}_{measure}"


class Uncertain(ScoringMethod):
    """Scores images by one pass of a bundle; an image is scored again when the weights change.

    Args:
        bundle: working copy of the bundle.
        measure: what the score is; the other measures of the same pass are kept too.
        scores: where scores are kept.
        caged: whether the bundle's code runs in cages only.
    """

    def __init__(
        self, bundle: Path, measure: Measure, scores: Scores, *, caged: bool = False
    ) -> None:
        super().__init__(f"{bundle.name}: {_TEXTS[measure]}")
        self._bundle, self._scores, self._caged = bundle, scores, caged
        self._name = method_name(bundle, measure)

    @property
    def used(self) -> bool:
        """Whether anybody ever asked for these scores."""
        return self._scores.asked_for(self._name)

    def known(self) -> dict[str, float]:
        """Image → score by the present weights."""
        return self._scores.of(self._name, digest(self._bundle))

    def missing(self, datastore: Any) -> list[str]:
        """Images without a label and without a score by the present weights."""
        known = self.known()
        return [image for image in sorted(datastore.get_unlabeled_images()) if image not in known]

    def __call__(self, request: dict[str, Any], datastore: Any) -> dict[str, Any]:
        """Score what has no score, for ``request["seconds"]`` at most; one bad image stops none."""
        start, limit = time.monotonic(), float(request.get("seconds", "inf"))
        weights, model, failed = digest(self._bundle), None, []
        waiting = self.missing(datastore)
        for done, image in enumerate(waiting):
            if done and time.monotonic() - start > limit:
                break
            model = model or self._model()
            try:
                found = model(read_image(datastore.source(image)))
            except Exception as error:  # noqa: BLE001  whatever an image holds, the next one counts
                _LOG.warning("an image has no score: %s", describe(error))
                failed.append(image)
                found = {}
            values = {method_name(self._bundle, name): value for name, value in found.items()}
            self._scores.put(image, weights, values or {self._name: _FAILED})
        return {"scored": len(waiting) - len(failed), "failed": len(failed)}

    def _model(self) -> Callable[[Volume], dict[Measure, float]]:
        if self._caged:
            return partial(cages.measure, self._bundle)
        return Uncertainty(self._bundle).measure


class MostUncertain(Strategy):
    """The unlabelled image with the highest score.

    One that another client was given within the last hour comes last, so that two people get two
    images.

    Args:
        method: gives the scores.
        seconds: how long a request may wait for scores; the rest is scored in the background.
    """

    def __init__(self, method: Uncertain, seconds: float) -> None:
        super().__init__(method.description)
        self._method, self._seconds = method, seconds

    def __call__(self, request: dict[str, Any], datastore: Any) -> dict[str, Any] | None:
        """The next image, ``None`` if all are labelled.

        Raises:
            InputError: no image could be scored.
        """
        if not datastore.get_unlabeled_images():
            return None
        self._method({"seconds": self._seconds}, datastore)
        known, waiting = self._method.known(), set(datastore.get_unlabeled_images())
        ranked = {image: score for image, score in known.items() if image in waiting}
        if not ranked:
            raise InputError("no image could be scored yet; ask again")
        taken = _given_to_others(request, datastore)
        best = min(ranked, key=lambda image: (taken(image), -ranked[image], image))
        return {"id": best, "score": ranked[best], "scored": len(ranked), "waiting": len(waiting)}


def _given_to_others(request: dict[str, Any], datastore: Any) -> Callable[[str], bool]:
    client, strategy = request.get("client_id"), request.get("strategy")

    def given(image: str) -> bool:
        served = datastore.get_image_info(image).get("strategy", {}).get(strategy, {})
        fresh = time.time() - served.get("ts", 0) < _SERVED
        return bool(fresh and served.get("client_id") != client)

    return given
