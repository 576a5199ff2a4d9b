"""The comparison as a command: ``python -m benchmarks.peers --size short``."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.peers import (
    calibration,
    environment,
    figures,
    forward_section,
    inputs,
    levels_section,
    measure,
    memory_section,
    network,
    plots,
    start_section,
    ways,
    whole_section,
)
from benchmarks.peers.page import page
from benchmarks.peers.sizes import SIZES, Size

ROOT = measure.ROOT
RESULTS = ROOT / "benchmarks" / "results"
PLACES = {"--json", "--folder"}
SECTIONS = ("peak", "forward", "whole", "levels", "start", "memory")


def main() -> int:
    """Measure, write the JSON, and the page from it; 1 if a row is wrong or failed."""
    given = _arguments()
    if given.page:
        found = json.loads(given.page.read_text())
    else:
        found = measured(given, _size(given))
        if given.add and given.json.is_file():
            before = json.loads(given.json.read_text())
            for key in ("sections", "sittings"):
                found[key] = before[key] | found[key]
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(found, indent=1) + "\n")
        print(f"figures in {given.json}")
    if given.page or given.write_page:
        (ROOT / "docs" / "benchmarks.md").write_text(page(found))
        plots.draw(found, ROOT / "docs" / "images")
    rows = [row for key in ("forward", "whole") for row in found["sections"].get(key, [])]
    problems = figures.wrong(rows) + figures.failed(rows)
    print("\n".join(problems), file=sys.stderr)
    return 1 if problems else 0


def measured(given: argparse.Namespace, size: Size) -> dict[str, Any]:
    """All sections that were asked for."""
    chosen = ways.chosen(given.ways)
    wanted = [name for name in SECTIONS if name in given.sections.split(",")]
    sitting = {
        "command": command(sys.argv[1:]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "size": asdict(size),
        "input": given.image.name if given.image else "phantoms (CT of a trunk, fixed seeds)",
        "source": "NIfTI" if given.image else "DICOM",
        "load": environment.load(),
    }
    found: dict[str, Any] = {"machine": environment.machine(), "sections": {}, "sittings": {}}
    _weights()
    inputs.prepare(given.folder, size, given.image)
    if {"forward", "whole"} & set(wanted):
        environment.make()
        if any(way.options.get("precision") == "int8" for way in chosen):
            found["no_int8"] = calibration.prepare(given.folder, size)
            print(found["no_int8"] or "int8: calibrated", flush=True)
    found["versions"] = environment.versions()
    for name in wanted:
        found["sections"][name] = _section(name, given.folder, size, chosen)
        found["sittings"][name] = sitting
    return found


def command(arguments: list[str]) -> str:
    """What was typed, without the places where things went."""
    kept = [
        word
        for before, word in pairwise(["", *arguments])
        if not {before, word} & PLACES and not word.startswith(tuple(f"{one}=" for one in PLACES))
    ]
    return shlex.join(["python", "-m", "benchmarks.peers", *kept])


def _weights() -> None:
    """The weights of the network, which are learnt if they are not there."""
    if network.WEIGHTS.is_file():
        return
    print("No weights yet: training the network on phantoms (once; minutes)", flush=True)
    done = measure.python("train")
    if done.code or not network.WEIGHTS.is_file():
        raise SystemExit(f"no weights: {done.error}")


def _section(name: str, folder: Path, size: Size, chosen: tuple[ways.Way, ...]) -> Any:
    print(f"— {name}", flush=True)
    if name == "peak":
        done = measure.python("peak", json.dumps(size.patch))
        if done.code:
            raise SystemExit(f"peak: {done.error}")
        return done.said
    if name == "forward":
        return forward_section.run(folder, size, chosen)
    if name == "whole":
        return whole_section.run(folder, size, ways.whole(chosen))
    if name == "levels":
        return levels_section.run(folder, size.pictures, size.rounds)
    if name == "start":
        return start_section.run(folder, max(3, size.rounds))
    return memory_section.run(size.memory_slices) if size.memory_slices else []


def _size(given: argparse.Namespace) -> Size:
    """What was asked for, changed by what else was."""
    size = SIZES[given.size]
    if given.slices:
        size = replace(size, shape=(*size.shape[:2], given.slices))
    if given.series:
        size = replace(size, series=given.series)
    if given.rounds:
        size = replace(size, rounds=given.rounds, whole_rounds=given.rounds)
    return replace(size, series=1) if given.image else size


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="short")
    parser.add_argument("--sections", default=",".join(SECTIONS), help="separated by commas")
    parser.add_argument("--ways", default="", help="words of the names of ours to run (a+b: both)")
    parser.add_argument("--image", type=Path, help="NIfTI of a real CT in the place of phantoms")
    parser.add_argument("--slices", type=int, help="of each phantom")
    parser.add_argument("--series", type=int, help="phantoms in the folder of the whole way")
    parser.add_argument("--rounds", type=int, help="of everything")
    parser.add_argument("--folder", type=Path, help="for inputs and masks")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--add", action="store_true", help="keep other sections of that file")
    parser.add_argument("--write-page", action="store_true", help="docs/benchmarks.md as well")
    parser.add_argument("--page", type=Path, help="only write the page, from this JSON")
    given = parser.parse_args()
    given.folder = (given.folder or ROOT / "build" / "peers-data" / given.size).resolve()
    given.json = given.json or RESULTS / f"{datetime.now(UTC):%Y-%m-%d}-peers-{given.size}.json"
    return given


if __name__ == "__main__":
    sys.exit(main())
