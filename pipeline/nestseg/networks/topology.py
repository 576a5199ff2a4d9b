"""Where the nodes of a U-Net grid are and which of them each reads: pure Python, no torch.

Node X^{i,j} sits at level i (a factor 2 coarser at each) and decoder column j; j = 0 is the
encoder. A decoder node reads the *laterals*, maps of its own level, and the node below to the left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

Node = tuple[int, int]


@dataclass(frozen=True)
class Topology:
    """Which lateral maps a decoder node takes, and which nodes carry a head by default.

    Attributes:
        laterals: decoder column j → columns of the same level that are concatenated.
        heads: depth → columns j of the nodes X^{0,j} with a head.
    """

    laterals: Callable[[int], tuple[int, ...]]
    heads: Callable[[int], tuple[int, ...]]


TOPOLOGIES = {
    "unet": Topology(laterals=lambda j: (0,), heads=lambda depth: (depth,)),
    "unet_e": Topology(laterals=lambda j: (0,), heads=lambda depth: tuple(range(1, depth + 1))),
    "unet+": Topology(laterals=lambda j: (j - 1,), heads=lambda depth: tuple(range(1, depth + 1))),
    "unet++": Topology(
        laterals=lambda j: tuple(range(j)), heads=lambda depth: tuple(range(1, depth + 1))
    ),
}

GRID_NAMES = {"unet": "unet", "unet_e": "unet_e", "unet_plus": "unet+", "unetpp": "unet++"}
"""Topologies as they are spelt in the names of networks."""


def head_columns(topology: str, depth: int, heads: Sequence[int] | None) -> list[int]:
    """Columns of the heads in rising order: ``heads``, or the topology's own.

    Raises:
        ValueError: no such topology; a head that the depth does not allow; the deepest is missing.
    """
    check_choice("topology", topology, TOPOLOGIES)
    columns = sorted(set(TOPOLOGIES[topology].heads(depth) if heads is None else heads))
    if not columns or not 1 <= columns[0] <= columns[-1] == depth:
        raise ValueError(f"heads {columns} must lie in 1..{depth} and include {depth}")
    return columns


def needed_nodes(topology: str, heads: Sequence[int]) -> list[Node]:
    """The nodes that heads at columns ``heads`` depend on, each behind those that it reads."""
    laterals = TOPOLOGIES[topology].laterals
    open_, needed = [(0, j) for j in heads], set[Node]()
    while open_:
        i, j = open_.pop()
        if (i, j) not in needed:
            needed.add((i, j))
            if j:
                open_ += [(i, k) for k in laterals(j)] + [(i + 1, j - 1)]
            elif i:
                open_.append((i - 1, 0))
    return sorted(needed, key=lambda node: (sum(node), node[1]))


def node_name(node: Node) -> str:
    """``(0, 3)`` → ``"x_0_3"``: named by place, so that a pruned state dict cannot mix heads."""
    return "x_{}_{}".format(*node)


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Pass if ``value`` is among ``choices``; else a ``ValueError`` that lists them."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
