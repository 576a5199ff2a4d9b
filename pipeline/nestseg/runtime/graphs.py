"""The graphs of one network: one for each shape of tile, made when tiles of that shape come."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from torch import Tensor

from nestseg.runtime.backends import backend
from nestseg.runtime.building import Way, build
from nestseg.runtime.choosing import fastest, remembered, usual
from nestseg.runtime.contract import Heads, Run, Task, one_line
from nestseg_prep import process_memory

WORTH: Final = 3
"""Tiles of a shape before graphs are compiled to be measured: an image of one tile waits less."""

MOST: Final = 4
"""Graphs that are held at a time: each has its own weights."""

_log = logging.getLogger("nestseg.runtime")


class Graphs:
    """What computes the tiles of a network.

    Args:
        network: digest of the network.
        ways: to choose from by measurement.
        reserve: what computes until there is something to measure, and where all others fail. The
            network itself stands behind it.
        at_once: whether the first tile of a shape already waits for graphs to be compiled.

    Attributes:
        way: what computed the last tile; ``""`` before the first.
        notes: what was done differently than asked, in sentences.
    """

    def __init__(
        self, network: str, ways: Sequence[Way], reserve: Way, *, at_once: bool = False
    ) -> None:
        self.way = ""
        self.notes: tuple[str, ...] = ()
        self._network = network
        self._ways = list(ways)
        self._reserve = [reserve]
        self._worth = 1 if at_once else WORTH
        self._seen: Counter[tuple[object, ...]] = Counter()
        self._of_shape: dict[tuple[bool, tuple[int, ...]], tuple[Way, Run]] = {}
        self._of_any_shape: dict[tuple[bool, Way], Run] = {}

    def run(self, x: Tensor, task: Task) -> list[Tensor]:
        """Logits of every wanted head for a tile ``(B, C, *spatial)``.

        Args:
            x: the tile.
            task: for its shape; the precision is that of the way.

        Raises:
            Exception: the network itself cannot compute it, or memory ran out.
        """
        while (found := self._find(task)) is not None:
            way, run, batch = found
            try:
                heads = run(_filled(x, batch))
            except Exception as error:
                if process_memory.ran_out(error):
                    raise
                self._give_up(way, error)
                continue
            self.way = str(way)
            return [head[: len(x)] for head in heads]
        self.way = "the network as it is"
        return Heads(task.network, every=task.every_head).answers(x)

    def _find(self, task: Task) -> tuple[Way, Run, int] | None:
        """A graph for a task, and for how many tiles at once; ``None`` if there is no way left."""
        for place, (way, run) in self._of_shape.items():
            every, shape = place
            fits = every == task.every_head and shape[1:] == task.shape[1:]
            if fits and shape[0] >= task.shape[0]:
                self._keep(place, way, run)
                fixed = backend(way.runtime).FIXED_SHAPE
                return way, run, shape[0] if fixed else task.shape[0]
        while self._ways or self._reserve:
            if not self._ways:
                self._ways, self._reserve = self._reserve, []
            made = self._chosen(task)
            if made is not None:
                return *made, task.shape[0]
        return None

    def _chosen(self, task: Task) -> tuple[Way, Run] | None:
        """By the only way there is, by the one that was fastest, or by measuring them."""
        only = len(self._ways) == 1
        way = self._ways[0] if only else remembered(self._ways, task, self._network)
        if way is not None:
            return self._built(way, task, keep=True)
        place = (task.every_head, task.shape)
        self._seen[place] += 1
        if self._seen[place] < self._worth and self._reserve:
            return self._built(self._reserve[0], task, keep=False)
        way = usual(self._ways, task, self._network)
        if way is not None:  # of another shape: one graph to build in place of all
            return self._built(way, task, keep=True)
        way, graph, failed = fastest(self._ways, task, self._network)
        for other, error in failed.items():
            self._give_up(other, error)
        if way is None or graph is None:
            return None
        self._keep(place, way, graph.run)
        return way, graph.run

    def _keep(self, place: tuple[bool, tuple[int, ...]], way: Way, run: Run) -> None:
        """Remember a graph as the last that was used, and forget those of long ago."""
        self._of_shape.pop(place, None)
        self._of_shape[place] = (way, run)
        if len(self._of_shape) > MOST:
            del self._of_shape[next(iter(self._of_shape))]

    def _built(self, way: Way, task: Task, *, keep: bool) -> tuple[Way, Run] | None:
        run = self._of_any_shape.get((task.every_head, way))
        if run is None:
            try:
                precise = replace(task, precision=way.precision)
                run = build(way, precise, self._network).run
            except Exception as error:  # noqa: BLE001  whatever a library raises, there are others
                self._give_up(way, error)
                return None
        if not backend(way.runtime).FIXED_SHAPE:
            self._of_any_shape[task.every_head, way] = run
        if keep:
            self._keep((task.every_head, task.shape), way, run)
        return way, run

    def _give_up(self, way: Way, error: Exception) -> None:
        """Never try a way again, and say so once."""
        self._ways = [one for one in self._ways if one != way]
        self._reserve = [one for one in self._reserve if one != way]
        self._of_shape = {k: made for k, made in self._of_shape.items() if made[0] != way}
        self._of_any_shape = {k: run for k, run in self._of_any_shape.items() if k[1] != way}
        note = f"not computed by {way}: {one_line(error)}"
        self.notes += (note,)
        _log.warning(note)


def _filled(x: Tensor, batch: int) -> Tensor:
    """Tiles of zeros behind others, up to as many as a graph takes."""
    return x if len(x) == batch else _with_zeros(x, batch)


def _with_zeros(x: Tensor, batch: int) -> Tensor:
    whole = x.new_zeros((batch, *x.shape[1:]))
    whole[: len(x)] = x
    return whole
