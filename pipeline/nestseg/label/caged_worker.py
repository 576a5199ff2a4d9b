"""In the cage: what a label server asks of a bundle from elsewhere, one question a process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from nestseg.bundle.caged_worker import failure
from nestseg.bundle.channel import Channel
from nestseg.label import training
from nestseg.label.cases import Labelled
from nestseg.label.traits import traits
from nestseg.label.uncertainty import Uncertainty
from nestseg_prep.volume import Volume


def main(incoming: str, outgoing: str) -> None:
    """Answer the question of the parent."""
    channel = Channel(int(incoming), int(outgoing))
    request = channel.receive()
    try:
        answer = _ANSWERS[request["what"]](Path(request["bundle"]), request, channel)
    except Exception as error:  # noqa: BLE001  whatever a bundle's code raises, the parent decides
        answer = failure(error, of_arrays=False)  # a request may hold paths of images
    channel.send(answer)


def _traits(bundle: Path, request: dict[str, Any], channel: Channel) -> dict[str, Any]:
    found = traits(bundle)
    return {"levels": list(found.levels), "measures": list(found.measures)}


def _measure(bundle: Path, request: dict[str, Any], channel: Channel) -> dict[str, Any]:
    affine = np.array(channel.receive()["affine"])
    found = Uncertainty(bundle).measure(Volume(channel.receive_array(), affine))
    return {str(name): value for name, value in found.items()}


def _train(bundle: Path, request: dict[str, Any], channel: Channel) -> dict[str, Any]:
    learn, validation = (
        [Labelled(one["id"], Path(one["image"]), Path(one["label"])) for one in request[name]]
        for name in ("training", "validation")
    )
    options = training.Options(**request["options"])
    training.train(bundle, learn, validation, options, Path(request["folder"]))
    return {}


_ANSWERS = {"traits": _traits, "measure": _measure, "train": _train}


if __name__ == "__main__":
    main(*sys.argv[1:])
