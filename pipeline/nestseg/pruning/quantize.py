"""A bundle's network in eight bits, kept only if its masks are as good on the validation cases."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nestseg.bundle.bundle import Bundle
from nestseg.bundle.in_process import InProcess, load_model
from nestseg.bundle.model import Model
from nestseg.bundle.options import SegmentOptions
from nestseg.pruning import scores, validation
from nestseg.runtime import calibrated
from nestseg.runtime.backends import int8
from nestseg.runtime.fast import graphs_of
from nestseg_prep.cohort import cases
from nestseg_prep.errors import InputError

MOST_LOST: Final = 0.002
"""Of the mean Dice against float32, for the model to be kept."""
TILES: Final = 32
_SURFACE_MM: Final = 1.0  # of a score that is not looked at here
_FLOAT32 = SegmentOptions(runtime="torch")
_INT8 = SegmentOptions(precision="int8")


@dataclass(frozen=True)
class Record:
    """What ``models/int8/record.json`` holds.

    Attributes:
        weights_sha256: what was calibrated.
        dice_fp32: mean over cases and labels, in float32.
        dice_int8: the same in int8.
        kept: whether the model was kept.
        cases: that were scored.
        failed: how many could not be.
        tiles: that the ranges were taken from.
        tile: voxels of one, per axis.
        libraries: versions.
    """

    weights_sha256: str
    dice_fp32: float
    dice_int8: float
    kept: bool
    cases: int
    failed: int
    tiles: int
    tile: tuple[int, ...]
    libraries: dict[str, str]


def quantize(folder: Path, data: Path) -> Record:
    """Calibrate a bundle on its validation cases, score it on them, and keep it if it is as good.

    Args:
        folder: of the bundle; its code is run. The model goes to ``models/int8`` in it.
        data: a data set, or the file that lists its cases; only validation cases are opened.

    Raises:
        InputError: the bundle cannot be calibrated, or no case can be scored. What was there before
            is still there.
    """
    libraries = {"nestseg": version("nestseg"), **int8.versions()}
    model = load_model(folder)
    plain = Bundle(InProcess((model,)), _FLOAT32)
    listed = cases(data, "val")
    read_truth = validation.truth_reader(folder)
    tiles = list(islice(_tiles(model, listed), TILES))
    if not tiles:
        raise InputError(f"{data}: no validation case can be read; name some under `val`")
    tiles = [tile for tile in tiles if tile.shape == tiles[0].shape]
    place = folder / calibrated.FOLDER
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".int8.partial-") as scratch:
        made = Path(scratch) / "int8"
        made.mkdir()
        int8.calibrate(model.network_at(None), tiles, made)
        other = replace(model, int8=made)
        asked = {0: plain, 1: Bundle(InProcess((other,)), _INT8)}
        scored = validation.score_levels(asked, listed, read_truth, _SURFACE_MM)
        _check_was_int8(other)
        before, after = (scores.mean([one.dice for one in scored.levels[k]]) for k in asked)
        if before is None or after is None:
            why = scored.failed[0].error if scored.failed else "they hold no label"
            raise InputError(f"{data}: no validation case can be scored ({why})")
        record = Record(
            model.info.weights_sha256,
            round(before, 5),
            round(after, 5),
            after >= before - MOST_LOST,
            len(scored.levels[0]),
            len(scored.failed),
            len(tiles),
            tiles[0].shape[2:],
            libraries,
        )
        if record.kept:
            (made / calibrated.RECORD).write_text(json.dumps(asdict(record), indent=2) + "\n")
            shutil.rmtree(place, ignore_errors=True)
            made.replace(place)
    return record


def _check_was_int8(model: Model) -> None:
    """Pass if no other library stood in, whose masks would say nothing of these."""
    graphs = graphs_of(model.answering(_INT8))
    if graphs.notes:
        raise InputError(f"{model.info.name}: {'; '.join(graphs.notes)}")


def _tiles(model: Model, listed: Sequence[validation.Case]) -> Iterator[npt.NDArray[np.float32]]:
    """Tiles of every case in turn, as the inferer cuts them: evenly spread, nothing is computed."""
    each = max(1, TILES // max(1, len(listed)))
    for case in listed:
        seen = _Seen(model)
        try:
            _, image = model.preprocessed(validation.read_image(case["image"]))
            for _ in model.inferer.slabs(image[None], seen):
                pass
        except Exception:  # noqa: BLE001, S112  one bad case never stops the others; scores say it
            continue
        chosen = np.linspace(0, len(seen.tiles) - 1, min(each, len(seen.tiles))).round().astype(int)
        yield from (seen.tiles[k] for k in chosen)


class _Seen:
    """Stands in for a network and keeps the tiles that it is shown."""

    def __init__(self, model: Model) -> None:
        network: Any = model.network_at(None)
        self.geometry = network.geometry
        self.tiles: list[npt.NDArray[np.float32]] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.tiles += [tile[None].cpu().numpy().astype(np.float32) for tile in x]
        return torch.zeros((len(x), 1, *self.geometry.output_size(x.shape[2:])))
