"""``docs/benchmarks.md`` from the JSON of a comparison: tables alone, no measuring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.peers.cells import DICE, dice, number, ratio, table
from benchmarks.peers.figures import failed, wrong
from benchmarks.peers.ways import BODY, EQUAL, MONAI, NNUNET, OWN

Row = Mapping[str, Any]
PICTURES = {"forward": "benchmarks_forward.png", "whole": "benchmarks_whole.png"}
LEVELS_PICTURE = "benchmarks_levels.png"


def page(found: Mapping[str, Any]) -> str:
    """The page.

    Args:
        found: what ``python -m benchmarks.peers`` wrote.
    """
    sections = found["sections"]
    parts = [_head(found)]
    if "forward" in sections:
        parts.append(_forward(found))
    if "whole" in sections:
        parts.append(_whole(found))
    if "levels" in sections:
        parts.append(_levels(found))
    if "start" in sections or "memory" in sections:
        parts.append(_start_and_memory(found))
    parts.append(_versions(found))
    return "\n\n".join(parts) + "\n"


def _head(found: Mapping[str, Any]) -> str:
    machine = found["machine"]
    some = next(iter(found["sittings"].values()))
    patch = "×".join(map(str, some["size"]["patch"]))
    return f"""\
# Benchmarks: ours and the peers

`make bench` runs a short form, `make bench-full` the whole; each section names its own command. \
Ways take turns, each run in a process of its own, and ratios are \
medians over the rounds, so that what else the machine does hits all alike: ratios count, absolute \
times do not.

{machine["processor"]}, {machine["cores"]} cores, {machine["memory_gb"]} GB, {machine["system"]}; \
threads: {machine["threads"]}.

The network is a 3D U-Net with batch norm on CT at 1.5 mm, 14 classes, tiles of {patch}: the same \
weights everywhere. They were learnt from phantoms like those that are segmented here \
(`python -m benchmarks.peers.train`), so that masks have clear borders and can be held against \
each other: Dice says here whether two ways agree, and nothing about patients. A row \
whose masks have a mean Dice below 0.995 with a peer's, and are also worse by more than 0.002 than \
the peer's against the truth, is **wrong**.\
{_problems(found)}"""


def _sitting(found: Mapping[str, Any], name: str) -> str:
    """By which command a section was measured, and on what."""
    one = found["sittings"][name]
    shape = "×".join(map(str, one["size"]["shape"]))
    return f"{_command(found, name)} Input: {one['input']} of {shape} voxels."


def _command(found: Mapping[str, Any], name: str) -> str:
    """By which command a section was measured, and when."""
    one = found["sittings"][name]
    return f"`{one['command']}`, {one['date'][:10]}, load before the start {one['load']:.1f}."


def _problems(found: Mapping[str, Any]) -> str:
    rows = [*found["sections"].get("forward", []), *found["sections"].get("whole", [])]
    sentences = wrong(rows) + failed(rows)
    if not sentences:
        return ""
    return "\n\nWhat is wrong or failed:\n\n" + "\n".join(f"- {one}" for one in sentences)


def _forward(found: Mapping[str, Any]) -> str:
    peak = found["sections"].get("peak")
    note = ""
    if peak:
        limits = ", ".join(f"{kind} {rate:.0f}" for kind, rate in peak["gflops"].items() if rate)
        note = (
            f"\n\nOne tile takes {peak['tile_gflop']:.0f} GFLOP. This machine's matrix products "
            f"(torch, 2048²) reach, in GFLOP/s: {limits}. `GFLOP/s` is of one tile through the "
            "network, without stitching."
        )
    header = ["way", "s", f"{MONAI.name} /", f"{NNUNET.name} /", "one tile s", "GFLOP/s", *DICE]
    rows = []
    for row in found["sections"]["forward"]:
        if row["reason"]:
            rows.append([row["name"], row["reason"]])
            continue
        median = row["median"]
        rate = peak["tile_gflop"] / median["tile_s"] if peak and "tile_s" in median else None
        rows.append(
            [
                row["name"],
                number(median["forward_s"], 2),
                *(ratio(row, peer, "forward_s") for peer in (MONAI.name, NNUNET.name)),
                number(median.get("tile_s"), 3),
                number(rate, 0),
                *dice(row),
            ]
        )
    return f"""\
## Forward passes and stitching

{_sitting(found, "forward")}

The first volume on the network's grid, from voxels in memory to labels on the same grid.{note}

*{EQUAL.name.capitalize()}* are those of the peers: the whole volume at an overlap of \
{EQUAL.overlap}. *{BODY.name.capitalize()}* are windows of that size and overlap, laid around what \
is more than air. *{OWN.name.capitalize()}* is laid likewise, at an overlap of {OWN.overlap}, with \
windows up to {OWN.more["roi_size_max"][0]}³.

{table(header, rows)}

![times](images/{PICTURES["forward"]})"""


def _whole(found: Mapping[str, Any]) -> str:
    sitting = found["sittings"]["whole"]
    ours, peers = (sitting["size"].get(key, 0) for key in ("series", "peer_series"))
    fewer = f" (the peers get the first {peers} of them, for their time)" if peers else ""
    header = ["way", "s a series", "CPU s a series", "peak GB"]
    header += [f"{what} {peer.name} /" for peer in (MONAI, NNUNET) for what in ("time", "memory")]
    rows = []
    for row in found["sections"]["whole"]:
        if row["reason"]:
            rows.append([row["name"], row["reason"]])
            continue
        median = row["median"]
        rows.append(
            [
                row["name"],
                *(number(median[key], 1) for key in ("series_s", "series_cpu_s", "peak_gb")),
                *(
                    ratio(row, peer.name, key)
                    for peer in (MONAI, NNUNET)
                    for key in ("series_s", "peak_gb")
                ),
                *dice(row),
            ]
        )
    return f"""\
## End to end

{_sitting(found, "whole")}

A folder of {ours} series{fewer} to masks on disk: start of the program, reading, \
resampling, network, the way back, writing. `nestseg segment` and `python -m monai.bundle run` \
(stock transforms) read {sitting["source"]}; nnU-Net reads NIfTI, with its own preprocessing and \
export, three processes each. Memory is the largest sum of the resident memory of all processes \
of a program.

{table([*header, *DICE], rows)}

![times and memory](images/{PICTURES["whole"]})"""


def _levels(found: Mapping[str, Any]) -> str:
    header = ["level", "pictures/s", "with start", "CPU s a picture", "L4's time / this", "peak GB"]
    body = [
        [
            row["name"],
            number(row["median"]["pictures_per_s"], 2),
            number(row["median"]["with_start_pictures_per_s"], 2),
            number(row["median"]["cpu_s_per_picture"], 3),
            number(row["ratio"]["L4"].get("s_per_picture"), 2),
            number(row["median"]["peak_gb"], 2),
        ]
        for row in found["sections"]["levels"]
    ]
    return f"""\
## Levels of a UNet++

{_command(found, "levels")}

`nestseg segment --bundle nuclei_unetpp --level …` on pictures of 512², from files to masks; \
without what the program takes to start, unless the column says so.

{table(header, body)}

![levels](images/{LEVELS_PICTURE})"""


def _start_and_memory(found: Mapping[str, Any]) -> str:
    sections = found["sections"]
    names = [name for name in ("start", "memory") if name in sections]
    commands = "\n\n".join(dict.fromkeys(_command(found, name) for name in names))
    start = [
        [row["name"], f"{number(row['median']['cpu_s'], 2)} CPU s", f"{row['limit_s']} CPU s"]
        for row in sections.get("start", [])
    ]
    memory = [
        [row["name"], row["reason"] or f"{row['peak_gb']:.2f} GB", f"{row['limit_gb']} GB"]
        for row in sections.get("memory", [])
    ]
    rows = table(["what", "measured", "wanted"], start + memory)
    return f"## Start and memory\n\n{commands}\n\n{rows}"


def _versions(found: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return f"## Versions\n\n{versions}."
