"""How large a comparison is."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.peers.network import PATCH


@dataclass(frozen=True)
class Size:
    """A comparison.

    Attributes:
        shape: columns, rows, slices of each CT.
        spacing: mm.
        patch: spatial shape of a tile.
        rounds: of forward passes; each way runs once in each.
        series: CTs in the folder that is segmented from end to end.
        peer_series: how many of them the peers get, the first ones; 0: all. What is compared is
            the time a series takes.
        whole_rounds: how often that is done.
        pictures: 2D pictures of each level.
        memory_slices: of the large CT; 0 leaves it out.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    patch: tuple[int, int, int] = PATCH
    rounds: int = 3
    series: int = 2
    peer_series: int = 0
    whole_rounds: int = 2
    pictures: int = 40
    memory_slices: int = 0


SIZES = {
    "tiny": Size((64, 64, 40), (1.7, 1.6, 2.0), (48, 48, 48), 1, 2, 1, 1, 4),
    "short": Size((256, 256, 80), (1.0, 1.0, 2.0), whole_rounds=1, pictures=12),
    "full": Size((512, 512, 200), (0.8, 0.8, 1.5), rounds=1, series=1, memory_slices=1000),
    # Ten would keep each peer busy for an hour; two are enough to tell what one takes.
    "many": Size((512, 512, 200), (0.8, 0.8, 1.5), series=10, peer_series=2, whole_rounds=1),
}
