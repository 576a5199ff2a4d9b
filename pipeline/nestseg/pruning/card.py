"""What a pruned bundle says of itself: its metadata, and a note on top of its README."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nestseg.pruning.candidates import change_configs
from nestseg.pruning.choice import Level
from nestseg.pruning.record import FILE_NAME, Record


def write_card(bundle: Path, name: str, record: Record) -> None:
    """Bring metadata and README of a bundle that was pruned up to date.

    Args:
        bundle: its folder, still with the texts of the full bundle.
        name: what the bundle will be called.
        record: of the pruning.
    """
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    change_configs(bundle, {"metadata": _metadata_changes(metadata, record)})
    readme = bundle / "docs" / "README.md"
    readme.parent.mkdir(exist_ok=True)
    old = readme.read_text() if readme.is_file() else ""
    readme.write_text(f"# {name}\n\n{_note(record)}\n---\n\n{old}")


def columns(surface_tolerance_mm: float) -> tuple[str, ...]:
    """What :func:`cells` gives of a level."""
    surface = f"Dice of surfaces at {surface_tolerance_mm:g} mm"
    sizes = ("level", "parameters", "weights MB")
    return (*sizes, "mean Dice", surface, "HD95 mm", "time ms", "memory MB")


def cells(level: Level) -> tuple[str, ...]:
    """A level as text."""
    return (
        f"L{level.level}",
        f"{level.parameters:,}",
        f"{level.file_bytes / 1e6:.2f}",
        f"{level.dice:.4f}",
        "–" if level.surface_dice is None else f"{level.surface_dice:.4f}",
        "–" if level.hd95_mm is None else f"{level.hd95_mm:.2f}",
        f"{level.ms:.0f}",
        "–" if level.mb is None else f"{level.mb:.0f}",
    )


def table(record: Record) -> str:
    """The levels as a Markdown table, the chosen one in bold."""
    head = columns(record.scoring.surface_tolerance_mm)
    rows = [head, ("---", *["---:"] * (len(head) - 1))]
    for level in record.levels:
        bold = "**" if level.level == record.chosen.level else ""
        rows.append(tuple(f"{bold}{cell}{bold}" for cell in cells(level)))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _metadata_changes(metadata: dict[str, Any], record: Record) -> dict[str, Any]:
    level, deepest = record.chosen.level, record.levels[-1].level
    (kept,) = [item for item in record.levels if item.level == level]
    version = f"{record.source.version}+l{level}"
    done = f"Pruned to level {level} of {deepest} on the validation cases."
    scores = {
        "val_mean_dice": kept.dice,
        f"val_surface_dice_{record.scoring.surface_tolerance_mm:g}mm": kept.surface_dice,
        "val_hd95_mm": kept.hd95_mm,
    }
    return {
        "version": version,
        "changelog": metadata["changelog"] | {version: done},
        "name": f"{metadata.get('name', record.source.name)}, level {level} of {deepest}",
        "description": f"{metadata['description']} {done}",
        "eval_metrics": {key: value for key, value in scores.items() if value is not None},
    }


def _note(record: Record) -> str:
    source, scoring, timing = record.source, record.scoring, record.timing
    return f"""\
Level {record.chosen.level} of {record.levels[-1].level} of `{source.name}` {source.version}, \
pruned by `nestseg prune`: {record.chosen.reason}. One head is left; its weights are those of the \
full network (SHA-256 {source.weights_sha256[:16]}…), unchanged, and so are its licence and its \
data's.

{table(record)}
Scores: means over {scoring.scored} of {scoring.cases} validation cases; the test cases were not \
opened. Time: median of {timing.cases} cases in {timing.rounds} processes per level, from voxels \
in memory to the mask, on {timing.machine["processor"]} ({timing.machine["device"]}, \
{timing.machine["threads"]} threads). Memory: {timing.memory}. Everything is in \
`{Path(FILE_NAME).name}`, and drawn in `pruning.png`, beside this file.

**Figures of accuracy below this line, and the log of the training, are those of the full \
network.**

"""
