"""``python -m nestseg.networks`` prints the table of the family, in Markdown."""

from __future__ import annotations

import torch

from nestseg.networks import NETWORKS


def parameters(name: str, spatial_dims: int) -> int:
    """Parameters of a network as its builder makes it, frozen ones too; takes no memory."""
    with torch.device("meta"):
        network = NETWORKS[name].build(spatial_dims)
    return sum(p.numel() for p in network.parameters())


def table() -> str:
    """One row a network: its name in ``NETWORKS``, its paper, its parameters in 2D and 3D."""
    rows = ["| network | paper | parameters in 2D | in 3D |", "|---|---|---:|---:|"]
    for name, network in NETWORKS.items():
        counts = (
            f"{parameters(name, dims):,}" if dims in network.spatial_dims else "–"
            for dims in (2, 3)
        )
        rows.append(f"| `{name}` | {network.paper} | {' | '.join(counts)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
