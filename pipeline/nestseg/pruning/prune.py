"""From a bundle with several heads to the smallest one that is good enough."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from nestseg.bundle.bundle import Bundle, load_bundle
from nestseg.networks.nodes import GridNetwork
from nestseg.outputs.preview import write_png
from nestseg.pruning import candidates, card, chart, cost, record, scores, validation
from nestseg.pruning.choice import Level, Rule, choose
from nestseg_prep.cohort import cases
from nestseg_prep.errors import InputError

SURFACE_TOLERANCE_MM = 1.0
ROUNDS = 3
TIMED_CASES = 8
PICTURE = "docs/pruning.png"


@dataclass(frozen=True)
class Progress:
    """Told what is going on.

    Attributes:
        start: called with the name of a stage and its number of steps.
        step: called when a step is finished.
    """

    start: Callable[[str, int], None] = lambda _name, _steps: None
    step: Callable[[], None] = lambda: None


def prune(
    bundle: Path,
    data: Path,
    out: Path,
    rule: Rule,
    *,
    rounds: int = ROUNDS,
    progress: Progress | None = None,
) -> record.Record:
    """Score and time every level of a bundle, choose one, and write the bundle pruned to it.

    What is scored and timed are the pruned bundles themselves, not the heads of the full one: a
    shallow network also needs less padding.

    Args:
        bundle: folder of the full bundle. Its code is run.
        data: a data set, or the file that lists its cases; only validation cases are opened.
        out: folder of the pruned bundle; must not exist, or be empty.
        rule: what the choice keeps to.
        rounds: processes per level to time it in.
        progress: told what is going on.

    Returns:
        What ``docs/pruning.json`` of the pruned bundle holds.

    Raises:
        InputError: the bundle cannot be pruned, no case can be scored, no level keeps to the rule,
            or ``out`` is taken. Nothing is left behind then.
    """
    tell = progress or Progress()
    _check_free(out)
    network = candidates.prunable_network(bundle)
    full = load_bundle(bundle, caged=False)
    listed = cases(data, "val")
    read_truth = validation.truth_reader(bundle)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.partial-") as scratch:
        folders = {level: Path(scratch) / f"{bundle.name}_l{level}" for level in network.levels}
        for level, folder in folders.items():
            candidates.write_level(bundle, network, level, folder)
        pruned = {level: load_bundle(folder, caged=False) for level, folder in folders.items()}

        tell.start("Scoring", len(listed))
        scored = validation.score_levels(
            pruned, listed, read_truth, SURFACE_TOLERANCE_MM, tell.step
        )
        if not scored.voxels:
            raise InputError(f"{data}: {_why_none(scored)}")
        tell.start("Timing", rounds * len(folders))
        timed = cost.pick(scored.voxels, TIMED_CASES)
        costs = cost.measure(folders, timed, rounds, tell.step)

        levels = _levels(network, pruned, folders, scored, costs)
        chosen = choose(levels, rule)
        made = record.Record(
            source=record.Source(full.info.name, full.info.version, full.info.weights_sha256),
            weights_sha256=pruned[chosen.level].info.weights_sha256,
            scoring=record.Scoring(
                _digest(data, listed), len(listed), tuple(scored.failed), SURFACE_TOLERANCE_MM
            ),
            timing=record.Timing(
                len(timed), rounds, costs[chosen.level].memory, cost.machine(full.device)
            ),
            levels=levels,
            rule=rule,
            chosen=chosen,
            nestseg=version("nestseg"),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        folder = folders[chosen.level]
        card.write_card(folder, out.name, made)
        (folder / record.FILE_NAME).write_text(record.to_json(made))
        write_png(chart.draw(made), folder / PICTURE)
        folder.replace(out)
    return made


def _levels(
    network: GridNetwork,
    pruned: Mapping[int, Bundle],
    folders: Mapping[int, Path],
    scored: validation.Scored,
    costs: Mapping[int, cost.Cost],
) -> tuple[Level, ...]:
    levels = []
    for level, bundle in sorted(pruned.items()):
        found = scored.levels[level]
        dice = scores.mean([case.dice for case in found])
        if dice is None:
            raise InputError("the validation cases hold no label: nothing to choose by")
        by_label = scores.mean_by_label([case.dice for case in found])
        levels.append(
            Level(
                level=level,
                parameters=sum(one.numel() for one in network.pruned(level).parameters()),
                file_bytes=(folders[level] / "models" / "model.pt").stat().st_size,
                dice=dice,
                dice_by_label=dict(zip(bundle.info.labels.values(), by_label, strict=True)),
                surface_dice=scores.mean([case.surface_dice for case in found]),
                hd95_mm=scores.mean([case.hd95_mm for case in found]),
                hd95_undefined=sum(int(case.one_sided.sum()) for case in found),
                ms=costs[level].ms,
                mb=costs[level].mb,
            )
        )
    return tuple(levels)


def _check_free(out: Path) -> None:
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists():
        raise InputError(f"{out}: is there already; give a new folder or remove it")


def _why_none(scored: validation.Scored) -> str:
    if not scored.failed:
        return "lists no validation case; name some under `val`"
    first = scored.failed[0]
    return f"no validation case can be scored ({first.case}: {first.error})"


def _digest(data: Path, listed: Sequence[validation.Case]) -> str:
    """Of which cases were listed, in which order, wherever the data set lies."""
    root = data if data.is_dir() else data.parent
    names = [
        {key: os.path.relpath(case[key], root) for key in ("image", "label")} for case in listed
    ]
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()
