"""Whether a mask can be right, as far as its shape and the network's doubt tell.

None of it says that a mask is right. Per label, one flag each at most:

``empty``
    No voxel has the label.
``touches-border``
    A voxel of it lies in the outermost plane of the image along an axis: it may go on beyond.
``several-pieces``
    It falls into more pieces than expected. Voxels that share a corner are one piece; pieces below
    a hundredth of the label's voxels are specks and not counted.
``volume-low``, ``volume-high``
    Its volume lies outside the range that the bundle's metadata give.

And for the whole mask:

``unlike-training``
    The network is less sure than on any of the cases that the bundle was validated on.

An image of one slice is a picture: structures are cut off and come in any number there, so border
and pieces are not judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nestseg.outputs.flag import Flag
from nestseg.outputs.volumetry import volumes_ml
from nestseg_prep.errors import InputError
from nestseg_prep.volume import Volume

SPECK = 0.01
"""Pieces below this part of their label are not counted."""
_CORNERS = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class Expected:
    """What a structure looks like, as far as a bundle knows.

    Attributes:
        pieces: how many it comes in at most; ``None`` for any number.
        volume_ml: the smallest and the largest, ``None`` if nobody looked.
    """

    pieces: int | None = 1
    volume_ml: tuple[float, float] | None = None


def expectations(metadata: Mapping[str, Any]) -> dict[int, Expected]:
    """What the metadata of a bundle say under ``plausibility``: label value → what to expect.

    Example:
        ``"plausibility": {"1": {"pieces": 2, "volume_ml": [900, 8000]}}``; ``"pieces": null`` for
        any number.

    Raises:
        InputError: it is written otherwise.
    """
    found = {}
    try:
        for value, facts in dict(metadata.get("plausibility", {})).items():
            low_high = facts.get("volume_ml")
            range_ml = (float(low_high[0]), float(low_high[1])) if low_high else None
            pieces = facts.get("pieces", 1)
            found[int(value)] = Expected(None if pieces is None else int(pieces), range_ml)
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise InputError(
            "configs/metadata.json: `plausibility` holds for each label "
            '{"pieces": 1, "volume_ml": [low, high]}'
        ) from error
    return found


def uncertainty_limit(metadata: Mapping[str, Any]) -> float | None:
    """The largest uncertainty of a bundle's validation cases, from its metadata.

    Example:
        ``"uncertainty_at_most": 0.024``; ``None`` or no such key where nobody measured it.

    Raises:
        InputError: it is not a number from 0 to 1.
    """
    limit = metadata.get("uncertainty_at_most")
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 <= limit <= 1:
        raise InputError(
            "configs/metadata.json: `uncertainty_at_most` is not a number from 0 to 1; write the "
            "largest uncertainty of the validation cases, or leave it out"
        )
    return float(limit)


def unlike_training(uncertainty: float | None, limit: float | None) -> tuple[Flag, ...]:
    """The flag of a case that the network is less sure of than of any validation case.

    Args:
        uncertainty: of the case, 0 to 1; ``None`` if nothing could disagree.
        limit: of :func:`uncertainty_limit`.
    """
    if uncertainty is None or limit is None or uncertainty <= limit:
        return ()
    sentence = (
        f"the network is unsure (uncertainty {uncertainty:.2g}, at most {limit:.2g} on the cases "
        "that it was validated on): the image may be unlike those that it was trained on"
    )
    return (Flag("unlike-training", sentence),)


def flags(
    mask: Volume,
    labels: Mapping[int, str],
    expected: Mapping[int, Expected] | None = None,
    volumes: Mapping[str, float] | None = None,
) -> tuple[Flag, ...]:
    """What a person should look at, label by label.

    Args:
        mask: label map; unsigned integers.
        labels: value → name.
        expected: what is known of a label; one piece of any size for those that are not named.
        volumes: what :func:`~nestseg.outputs.volumetry.volumes_ml` gave, if that is known.
    """
    boxes = _boxes(mask.array, max(labels, default=1))
    volumes = volumes_ml(mask, dict(labels)) if volumes is None else volumes
    found: list[Flag] = []
    for value, name in labels.items():
        box = boxes[value - 1]
        if box is None:
            found.append(Flag("empty", f"no {name} was found", name))
            continue
        known = (expected or {}).get(value, Expected())
        if mask.shape[2] > 1:
            found += _border(mask, value, name, box)
            found += _pieces(mask.array[box] == value, name, known)
        if name in volumes:  # a picture has none
            found += _volume(volumes[name], name, known)
    return tuple(found)


def _boxes(array: npt.NDArray[Any], labels: int) -> list[tuple[slice, ...] | None]:
    """The box of each label; in the order of memory, which is ten times as fast as across it."""
    if array.flags.f_contiguous:
        return [box and box[::-1] for box in ndimage.find_objects(array.T, max_label=labels)]
    return list(ndimage.find_objects(array, max_label=labels))


def _border(mask: Volume, value: int, name: str, box: tuple[slice, ...]) -> Iterator[Flag]:
    """The box is tight: where it ends at a border, the label does."""
    if any(
        size > 1 and (side.start == 0 or side.stop == size)
        for side, size in zip(box, mask.shape, strict=True)
    ):
        yield Flag("touches-border", f"{name} reaches the border of the image", name)


def _pieces(region: npt.NDArray[np.bool_], name: str, known: Expected) -> Iterator[Flag]:
    if known.pieces is None:
        return
    sizes = _piece_sizes(region)
    whole = int(sizes.sum())
    counted = sizes[sizes >= SPECK * whole]
    if len(counted) > known.pieces:
        share = round(100 * float(sizes.max()) / whole)
        sentence = f"{name} is in {len(counted)} pieces, the largest holds {share} %"
        yield Flag("several-pieces", sentence, name)


def _piece_sizes(region: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Voxels of each piece. Four bytes per voxel of the region, for the pieces' numbers."""
    pieces, count = ndimage.label(region, structure=_CORNERS, output=np.int32)
    sizes = np.zeros(count + 1, np.int64)
    for plane in np.moveaxis(pieces, -1, 0):  # bincount takes eight bytes a voxel
        found = np.bincount(plane.ravel())
        sizes[: len(found)] += found
    return sizes[1:]


def _volume(volume_ml: float, name: str, known: Expected) -> Iterator[Flag]:
    if known.volume_ml is None:
        return
    low, high = known.volume_ml
    if low <= volume_ml <= high:
        return
    code = "volume-low" if volume_ml < low else "volume-high"
    sentence = f"{name} has {_short(volume_ml)} ml, expected are {_short(low)} to {_short(high)} ml"
    yield Flag(code, sentence, name)


def _short(number: float) -> str:
    """Three digits, or all of a larger number: 0.123, 12.3, 1234."""
    return f"{number:.0f}" if abs(number) >= 100 else f"{number:.3g}"
