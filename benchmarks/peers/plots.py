"""Pictures of a comparison: bars of how many times faster and leaner, and the curve of levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.page import LEVELS_PICTURE, PICTURES
from benchmarks.peers.ways import PEERS

Row = Mapping[str, Any]
OURS, COLOURS = "#2a6f97", ("#b0b0b0", "#707070")
DPI = 110


def draw(found: Mapping[str, Any], folder: Path) -> None:
    """Write the pictures that ``docs/benchmarks.md`` shows.

    Args:
        found: what ``python -m benchmarks.peers`` wrote.
        folder: of pictures.
    """
    sections = found["sections"]
    if "forward" in sections:
        bars(sections["forward"], ("forward_s",), folder / PICTURES["forward"])
    if "whole" in sections:
        bars(sections["whole"], ("series_s", "peak_gb"), folder / PICTURES["whole"])
    if "levels" in sections:
        curve(sections["levels"], folder / LEVELS_PICTURE)


_TITLES = {
    "forward_s": "time of the peer / ours (forward and stitching)",
    "series_s": "time of the peer / ours (end to end, a series)",
    "peak_gb": "peak memory of the peer / ours",
}


def bars(rows: Sequence[Row], keys: Sequence[str], path: Path) -> None:
    """Two bars for each of our ways, one for each peer, in a panel for each figure."""
    plt = _pyplot()
    ours = [row for row in rows if row["kind"] == "ours" and not row["reason"]]
    figure, panels = plt.subplots(
        1, len(keys), squeeze=False, sharey=True, figsize=(8 * len(keys), 1.2 + 0.55 * len(ours))
    )
    for panel, key in zip(panels[0], keys, strict=True):
        for number, (peer, colour) in enumerate(zip(PEERS, COLOURS, strict=True)):
            places = [place + 0.38 * (0.5 - number) for place in range(len(ours))]
            values = [row["ratio"].get(peer.name, {}).get(key, 0.0) for row in ours]
            drawn = panel.barh(places, values, 0.36, color=colour, label=f"against {peer.name}")
            panel.bar_label(drawn, fmt="%.1f", padding=2)
        panel.axvline(1, color="black", linewidth=0.8)
        panel.set_title(_TITLES[key])
        panel.set_yticks(range(len(ours)), [row["name"] for row in ours])
        panel.margins(x=0.12)
        panel.legend(loc="lower right", fontsize="small")
    _save(plt, figure, path)


def curve(rows: Sequence[Row], path: Path) -> None:
    """Pictures per second of each level, without and with the start of the program."""
    plt = _pyplot()
    figure, panel = plt.subplots(figsize=(6, 4))
    levels = [row["name"] for row in rows]
    for key, style, label in (
        ("pictures_per_s", "o-", "started"),
        ("with_start_pictures_per_s", "o--", "with the start of the program"),
    ):
        panel.plot(levels, [row["median"][key] for row in rows], style, color=OURS, label=label)
    panel.set_ylim(bottom=0)
    panel.set_ylabel("pictures of 512² per second, files to masks")
    panel.set_title("nuclei_unetpp by level")
    panel.grid(alpha=0.3)
    panel.legend()
    _save(plt, figure, path)


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def _save(plt: Any, figure: Any, path: Path) -> None:
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    plt.close(figure)
