"""The page is made of the figures: nothing is left out, nothing is hidden."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks.peers import figures, plots, rows, ways
from benchmarks.peers.__main__ import command
from benchmarks.peers.measure import UNAVAILABLE, Run
from benchmarks.peers.page import page
from benchmarks.peers.ways import Way

OURS = Way("nestseg as installed", "nestseg", required=True)
FAST = Way("nestseg int8", "nestseg")


@pytest.fixture
def found() -> dict[str, Any]:
    def run(way: Way) -> Run:
        if way is FAST:
            return Run(UNAVAILABLE, 1, 1, 1, error="no calibrated model")
        seconds = 24.0 if way.kind == "peer" else 2.0
        said = {"forward_s": seconds, "tile_s": seconds / 10}
        said |= {"series_s": seconds, "series_cpu_s": seconds + 1}
        return Run(0, 2 * seconds, 2 * seconds, 10**9, said)

    section = rows.interleaved((*ways.PEERS, OURS, FAST), 1, run)
    for row in section:
        row["truth"], row["agreement"] = 0.98, {}
    judged = {"dice": 0.97, "truth": 0.98, "truth_peer": 0.99, "right": False}
    section[2]["agreement"] = {peer.name: judged for peer in ways.PEERS}
    pictures = [
        {
            "name": f"L{k}",
            "median": {
                "pictures_per_s": 8.0 / k,
                "with_start_pictures_per_s": 2.0 / k,
                "cpu_s_per_picture": 0.1 * k,
                "peak_gb": 0.5,
            },
            "ratio": {"L4": {"s_per_picture": 4 / k}},
        }
        for k in (1, 2, 3, 4)
    ]
    sitting = {
        "command": "python -m benchmarks.peers --size tiny",
        "date": "2026-11-21T20:00:00+00:00",
        "size": {"shape": [64, 64, 40], "patch": [48, 48, 48], "series": 4, "peer_series": 2},
        "input": "phantoms",
        "source": "DICOM",
        "load": 0.1,
    }
    return {
        "sittings": dict.fromkeys(
            ("peak", "forward", "whole", "levels", "start", "memory"), sitting
        ),
        "machine": {
            "processor": "CPU",
            "cores": 2,
            "memory_gb": 24,
            "system": "Linux",
            "threads": "all",
        },
        "versions": {"torch": "2.13.0"},
        "sections": {
            "peak": {"gflops": {"fp32": 190.0, "bf16": 800.0, "int8": 0.0}, "tile_gflop": 100.0},
            "forward": section,
            "whole": section,
            "levels": pictures,
            "start": [{"name": "first tile", "median": {"cpu_s": 4.2}, "limit_s": 5.0}],
            "memory": [
                {"name": "large", "reason": "", "peak_gb": 3.2, "limit_gb": 4.0},
                {"name": "larger", "reason": "MemoryError", "limit_gb": 6.0},
            ],
        },
    }


def test_every_figure_is_on_the_page(found: dict[str, Any]) -> None:
    text = page(found)
    lines = [line for line in text.splitlines() if line.startswith("| nestseg as installed ")]
    forward, whole = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    assert forward[1:6] == ["2.00", "12.00", "12.00", "0.200", "500"]  # 100 GFLOP in 0.2 s
    assert forward[6:] == ["0.9700 **wrong**", "0.9700 **wrong**", "0.9800"]
    assert whole[1:5] == ["2.0", "3.0", "1.0", "12.00"]
    assert "A folder of 4 series (the peers get the first 2 of them, for their time)" in text
    assert "not available: no calibrated model" in text
    assert "- nestseg as installed: Dice 0.9700 with MONAI stock fp32" in text
    assert "| L2 | 4.00 | 1.00 | 0.200 | 2.00 | 0.50 |" in text
    assert "| large | 3.20 GB | 4.0 GB |" in text
    assert text.count("`python -m benchmarks.peers --size tiny`") == 4  # one for each section
    assert "| larger | MemoryError | 6.0 GB |" in text
    assert "bf16 800" in text
    assert "int8" not in text.split("reach, in GFLOP/s:")[1].split("\n")[0]


def test_tables_have_as_many_cells_as_their_header(found: dict[str, Any]) -> None:
    counts: list[int] = []
    for line in page(found).splitlines():
        if not line.startswith("|"):
            counts = []
            continue
        counts.append(line.count("|"))
        assert counts[-1] == counts[0], line


def test_wrong_rows_fail_the_command(found: dict[str, Any]) -> None:
    section = found["sections"]["forward"]
    assert len(figures.wrong(section)) == 2
    assert figures.failed(section) == []  # int8 is not required


def test_pictures_are_drawn(found: dict[str, Any], tmp_path: Path) -> None:
    plots.draw(found, tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["benchmarks_forward.png", "benchmarks_levels.png", "benchmarks_whole.png"]
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            assert picture.width > 400


def test_a_command_is_told_without_the_places_of_one_machine() -> None:
    typed = ["--size", "tiny", "--json", "/a/b.json", "--folder=/c", "--ways", "own tiling"]
    assert command(typed) == "python -m benchmarks.peers --size tiny --ways 'own tiling'"
