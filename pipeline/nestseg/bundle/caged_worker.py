"""In the cage: loads a bundle, segments one image that comes over a pipe, and ends."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from nestseg.bundle import lean_start, trace
from nestseg.bundle.channel import Channel, ChannelError
from nestseg.bundle.familiar import is_familiar
from nestseg.bundle.options import SegmentOptions
from nestseg.outputs.segmentation import Prediction
from nestseg_prep import process_memory
from nestseg_prep.errors import InputError, describe
from nestseg_prep.volume import Volume


def main(incoming: str, outgoing: str) -> None:
    """Serve one image."""
    process_memory.give_back_freed()
    channel = Channel(int(incoming), int(outgoing))
    try:
        _serve(channel)
    except ChannelError:  # the parent is gone
        return
    except Exception as error:  # noqa: BLE001  whatever a bundle's code raises, the parent decides
        channel.send(failure(error))


def failure(error: BaseException, *, of_arrays: bool = True) -> dict[str, Any]:
    """An error as a message.

    Args:
        error: what was raised.
        of_arrays: whether nothing but voxels and affines came into this cage: then what libraries
            say of them may leave it (:func:`nestseg.bundle.trace.told`).
    """
    traced = {"trace": trace.lines(error)} if trace.wanted() else {}
    if process_memory.ran_out(error):
        return {"failed": "memory", "text": "out of memory"} | traced
    root = error
    while root.__cause__ is not None and not isinstance(root, InputError):
        root = root.__cause__
    if isinstance(root, InputError):
        return {"failed": "input", "text": describe(root)} | traced
    return {
        "failed": "code",
        "text": type(root).__name__,
        "told": trace.told(error, of_arrays=of_arrays),
        "lasts": trace.lasts(root, of_arrays=of_arrays),
    } | traced


def _serve(channel: Channel) -> None:
    request = channel.receive()
    first, *ensemble = map(Path, request["bundles"])
    options = SegmentOptions(**request["options"], ensemble=tuple(ensemble))
    if all(map(is_familiar, (first, *ensemble))):
        lean_start.import_monai()
    from nestseg.bundle import in_process  # noqa: PLC0415  torch comes after what makes it smaller

    loaded = in_process.load(first, options)
    meaning = loaded.models[0].meaning
    values = [
        [value, of, *meaning.hidden_by.get(value, ())] for value, of in meaning.channel_of.items()
    ]
    channel.send(
        {
            "device": loaded.device,
            "weights": loaded.models[0].weights.as_posix(),
            "values": sorted(values),
            "overlap": meaning.overlap,
        }
    )
    request = channel.receive()
    options = SegmentOptions(**request["options"], ensemble=tuple(ensemble))
    volume = Volume(channel.receive_array(), np.array(request["affine"]))
    _send(channel, loaded.predict(volume, options))


def _send(channel: Channel, result: Prediction) -> None:
    maps = result.uncertainty_map
    channel.send(
        {
            "uncertainty": result.uncertainty,
            "uncertainty_map": maps is not None,
            "notes": list(result.notes),
            "computed_by": result.computed_by,
            "probabilities": result.labels_with_probabilities,
        }
    )
    for mask in result.masks:
        channel.send_array(mask.array)
    if maps is not None:
        channel.send_array(maps.array)
    for _, probability in result.probabilities():
        channel.send_array(probability.array)


if __name__ == "__main__":
    main(*sys.argv[1:])
