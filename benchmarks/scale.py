"""How long 100,000 series take on N nodes that fail now and then: a simulation from measured times.

    python benchmarks/scale.py measure                # one worker over MR crops of many sizes
    python benchmarks/scale.py measure --journal OUT  # or the times of a run of your own
    python benchmarks/scale.py simulate               # 1 to 1,024 nodes; the table and the plot

``measure`` writes ``results/scale-sample.json``: seconds of each stage of each case, of the start
of a worker, and of putting one case on record (journal, renames, syncs). ``simulate`` draws cases
from it, with replacement, and writes ``results/scale.json`` and ``docs/images/scale.png``
(``pip install matplotlib``).

The simulation knows: nodes that fail at random and come back; what a failed node had in work is run
again; cases that always kill their worker, three times each; a driver that puts one case after the
other on record, and dies and is started again; or, with ``--shard``, a driver a node, whose cases
wait for it while the node is away.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "benchmarks" / "results" / "scale-sample.json"
RESULT = ROOT / "benchmarks" / "results" / "scale.json"
PLOT = ROOT / "docs" / "images" / "scale.png"
BUNDLE = "hippocampus_unetpp"
CROPS = 24
Row = dict[str, Any]
NODES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class World:
    """What happens to a run.

    Attributes:
        series: how many there are.
        node_fails_h: mean time of a node between failures, in hours.
        node_back_h: mean time until it is back.
        driver_fails_h: mean time of the driver between failures.
        driver_back_s: until it runs again; it finds the finished cases in its journal.
        poison: share of cases that kill their worker each time.
        attempts: after which such a case is set aside.
    """

    series: int = 100_000
    node_fails_h: float = 48.0
    node_back_h: float = 0.5
    driver_fails_h: float = 24.0
    driver_back_s: float = 120.0
    poison: float = 1e-4
    attempts: int = 3


@dataclass
class Run:
    """What came of it."""

    hours: float = 0.0
    done: int = 0
    set_aside: int = 0
    lost: int = 0  # attempts that a failure cut short
    node_failures: int = 0
    driver_failures: int = 0


class Simulation:
    """One run, event by event.

    Args:
        world: what happens.
        case_s: seconds of a case in a worker, measured.
        start_s: seconds until a worker is ready.
        record_s: seconds to put a case on record, one after the other in each driver.
        nodes: one worker on each.
        sharded: a driver for each node, with its own part of the cases.
        seed: of all that is random.
    """

    def __init__(
        self,
        world: World,
        case_s: np.ndarray,
        start_s: float,
        record_s: float,
        nodes: int,
        *,
        sharded: bool,
        seed: int,
    ) -> None:
        self._world, self._start_s, self._record_s = world, start_s, record_s
        self._draw = np.random.default_rng(seed)
        self._seconds = self._draw.choice(case_s, world.series)
        self._poison = self._draw.random(world.series) < world.poison
        self._attempts = np.zeros(world.series, int)
        self._settled = np.zeros(world.series, int)
        self._drivers = nodes if sharded else 1
        owner = self._draw.integers(self._drivers, size=world.series)
        self._queues = [list(np.flatnonzero(owner == one)) for one in range(self._drivers)]
        self._recorder_free = [0.0] * self._drivers
        self._driver_up = [True] * self._drivers
        self._node_up = [True] * nodes
        self._work: list[int | None] = [None] * nodes
        self._epoch = [0] * nodes  # grows when what a node has in work is lost
        self._events: list[tuple[float, int, str, int]] = []
        self.run = Run()

    def play(self) -> Run:
        """Until every case is done or set aside, exactly once."""
        happens: dict[str, Callable[[int, float], None]] = {
            "computed": self._computed,
            "recorded": self._recorded,
            "node fails": self._node_fails,
            "node back": self._node_back,
            "driver fails": self._driver_fails,
            "driver back": self._driver_back,
        }
        for node in range(len(self._node_up)):
            self._node_back(node, 0.0)
        for driver in range(self._drivers):
            self._later("driver fails", driver, self._exp(self._world.driver_fails_h))
        now = 0.0
        while self.run.done + self.run.set_aside < self._world.series:
            now, place, what, epoch = heapq.heappop(self._events)
            if what not in ("computed", "recorded") or epoch == self._epoch[place]:
                happens[what](place, now)
        assert (self._settled == 1).all()
        self.run.hours = now / 3600
        return self.run

    def _later(self, what: str, place: int, at: float) -> None:
        epoch = self._epoch[place] if what in ("computed", "recorded") else 0
        heapq.heappush(self._events, (at, place, what, epoch))

    def _exp(self, hours: float) -> float:
        return float(self._draw.exponential(hours * 3600))

    def _driver_of(self, node: int) -> int:
        return node % self._drivers

    def _nodes_of(self, driver: int) -> range:
        return range(driver, len(self._node_up), self._drivers)

    def _begin(self, node: int, now: float) -> None:
        """Give a node the next case of its driver, if there is any and both are up."""
        driver = self._driver_of(node)
        queue = self._queues[driver]
        if queue and self._node_up[node] and self._driver_up[driver]:
            case = self._work[node] = queue.pop()
            self._attempts[case] += 1
            self._later("computed", node, now + float(self._seconds[case]))

    def _computed(self, node: int, now: float) -> None:
        driver = self._driver_of(node)
        free = max(now, self._recorder_free[driver]) + self._record_s
        self._recorder_free[driver] = free
        self._later("recorded", node, free)

    def _recorded(self, node: int, now: float) -> None:
        case, self._work[node] = self._work[node], None
        assert case is not None
        poison = bool(self._poison[case])
        if poison and self._attempts[case] < self._world.attempts:
            self._queues[self._driver_of(node)].insert(0, case)
        else:
            self._settled[case] += 1
            self.run.set_aside += poison
            self.run.done += not poison
        self._begin(node, now + (self._start_s if poison else 0.0))  # it took its worker with it

    def _drop(self, node: int) -> None:
        """What a node had in work waits again; a failure of a machine is no fault of the case."""
        self._epoch[node] += 1
        case, self._work[node] = self._work[node], None
        if case is not None:
            self.run.lost += 1
            self._attempts[case] -= 1
            self._queues[self._driver_of(node)].append(case)

    def _node_fails(self, node: int, now: float) -> None:
        self.run.node_failures += 1
        self._node_up[node] = False
        self._drop(node)
        for other in self._nodes_of(self._driver_of(node)):
            if self._work[other] is None:
                self._begin(other, now)  # towards the end some are idle
        self._later("node back", node, now + self._exp(self._world.node_back_h))

    def _node_back(self, node: int, now: float) -> None:
        self._node_up[node] = True
        self._begin(node, now + self._start_s)
        self._later("node fails", node, now + self._exp(self._world.node_fails_h))

    def _driver_fails(self, driver: int, now: float) -> None:
        self.run.driver_failures += 1
        self._driver_up[driver] = False
        self._recorder_free[driver] = now
        for node in self._nodes_of(driver):
            self._drop(node)  # workers die with their driver
        self._later("driver back", driver, now + self._world.driver_back_s)

    def _driver_back(self, driver: int, now: float) -> None:
        self._driver_up[driver] = True
        for node in self._nodes_of(driver):
            self._begin(node, now + self._start_s)
        self._later("driver fails", driver, now + self._exp(self._world.driver_fails_h))


def simulate(world: World) -> None:
    """Both ways for every number of nodes; write table, record and plot."""
    sample = json.loads(SAMPLE.read_text())
    case_s = np.array([sum(case["seconds"].values()) for case in sample["cases"]])
    start_s, record_s = median(sample["start_s"]), median(sample["record_s"])
    rows = []
    print("| nodes | one driver h | shards h | ideal h | lost attempts | node failures |")
    print("|---|---|---|---|---|---|")
    for nodes in NODES:
        ideal = world.series * float(case_s.mean()) / nodes / 3600
        row: Row = {"nodes": nodes, "ideal_h": ideal}
        for way, sharded in (("one driver", False), ("shards", True)):
            run = Simulation(world, case_s, start_s, record_s, nodes, sharded=sharded, seed=nodes)
            row[way] = asdict(run.play())
        rows.append(row)
        one, many = row["one driver"], row["shards"]
        print(
            f"| {nodes} | {one['hours']:.1f} | {many['hours']:.1f} | {ideal:.1f} "
            f"| {one['lost']} | {one['node_failures']} |"
        )
    record = {
        "command": "python benchmarks/scale.py simulate",
        "world": asdict(world),
        "sample": {"case_s": float(case_s.mean()), "start_s": start_s, "record_s": record_s},
        "rows": rows,
    }
    RESULT.write_text(json.dumps(record, indent=1) + "\n")
    plot(world, rows, record_s)


def plot(world: World, rows: list[Row], record_s: float) -> None:
    """Hours against nodes, both axes logarithmic."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    nodes = [row["nodes"] for row in rows]
    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    axes.plot(nodes, [row["ideal_h"] for row in rows], "--", color="#999999", label="ideal")
    for way, colour in (("one driver", "#d2461e"), ("shards", "#3373a8")):
        hours = [row[way]["hours"] for row in rows]
        axes.plot(nodes, hours, "o-", color=colour, label=f"{way}, with failures")
    least = world.series * record_s / 3600
    axes.axhline(least, color="#d2461e", linewidth=0.8, linestyle=":")
    axes.text(nodes[0], least * 1.05, "as fast as one driver can put cases on record", fontsize=8)
    axes.set(xscale="log", yscale="log", xlabel="nodes", ylabel="hours")
    axes.set_xticks(nodes, [str(number) for number in nodes])
    axes.set_title(
        f"{world.series:,} series; each node fails every {world.node_fails_h:.0f} h, "
        f"each driver every {world.driver_fails_h:.0f} h"
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(PLOT, dpi=130)


def measure(journal: Path | None) -> None:
    """Times of cases, of the start of a worker, and of putting cases on record."""
    with tempfile.TemporaryDirectory() as name:
        starts, cases = run_crops(Path(name))
        if journal:
            cases = times_of(journal)
        record_s = recording(Path(name) / "out")
    sample = {
        "command": "python benchmarks/scale.py measure" + (" --journal OUT" if journal else ""),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg(),
        "bundle": None if journal else BUNDLE,
        "cases": cases,
        "start_s": starts,
        "record_s": record_s,
    }
    SAMPLE.write_text(json.dumps(sample, indent=1) + "\n")
    whole = mean(sum(case["seconds"].values()) for case in cases)
    print(f"a case {whole:.1f} s, on record in {1000 * median(record_s):.1f} ms")


def times_of(out: Path) -> list[Row]:
    """Of every case that a run has done."""
    from nestseg.batch.read import read_view
    from nestseg.batch.states import State

    rows = [row for row in read_view(out).rows if row.state is State.DONE]
    return [{"shape": row.shape, "seconds": row.facts.seconds} for row in rows]


def run_crops(folder: Path) -> tuple[list[float], list[Row]]:
    """One worker over MR crops of noise: seconds to start it, and of each stage of each case."""
    from nestseg.batch.jobs import Job, Limits, Outcome, Settings
    from nestseg.batch.local import LocalPool
    from nestseg.bundle import locate
    from nestseg_prep.dicom.scan import scan
    from nestseg_prep.nifti import write_nifti
    from nestseg_prep.volume import Volume

    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    for number in range(CROPS):
        array = rng.normal(500, 100, rng.integers(30, 64, 3)).astype(np.float32)
        write_nifti(Volume(array, np.eye(4)), folder / "images" / f"{number}.nii.gz")
    refs = scan(folder / "images").series
    begin = time.perf_counter()
    # A limit of memory, however large, makes the worker take one case after the other: the
    # stages of a case then add up to its time.
    settings = Settings(locate.find(BUNDLE), threads=1)
    pool = LocalPool(settings, Limits(memory_mb=1_000_000), 1)
    pool.ready()
    starts = [time.perf_counter() - begin]
    outcomes: list[Outcome] = []
    for number, ref in enumerate(refs):
        pool.submit(Job(f"case{number}", ref, 1, folder / f"{number}"))
        while not (found := pool.wait(1.0)):
            pass
        outcomes += found
    pool.close(kill=False)
    assert not any(outcome.cause for outcome in outcomes), outcomes
    pairs = zip(refs, outcomes, strict=True)
    return starts, [{"shape": ref.shape, "seconds": one.facts.seconds} for ref, one in pairs]


def recording(out: Path) -> list[float]:
    """Seconds that a driver needs for each of 200 cases besides their computation."""
    from nestseg.batch import publish, schema
    from nestseg.batch.cases import Case
    from nestseg.batch.digests import input_digest
    from nestseg.batch.entries import Entry
    from nestseg.batch.jobs import Outcome
    from nestseg.batch.journal import Journal
    from nestseg.batch.lease import Lease
    from nestseg.batch.settlement import Settlement
    from nestseg.batch.states import Output, State
    from nestseg_prep.dicom.scan import scan
    from nestseg_prep.nifti import write_nifti
    from nestseg_prep.volume import Volume

    out.mkdir()
    source = out.parent / "one.nii.gz"
    write_nifti(Volume(np.zeros((8, 8, 8), np.uint8), np.eye(4)), source)
    (ref,) = scan(source).series
    lease = Lease(out / schema.journal_name())
    journal = Journal(out / schema.journal_name(), lease.token)
    staging = publish.make_staging(publish.staging_root(out, None), lease.token)
    settlement = Settlement(journal, out, staging, lambda event: None)
    digest = hashlib.sha256(b"content").hexdigest()
    seconds = []
    for number in range(200):
        one = replace(ref, key=f"{number:012d}")
        case = Case(f"case{number}", one, input_digest(one))
        begin = time.perf_counter()
        journal.enter(Entry(one.key, case.name, {}, State.FOUND, "", case.input_digest, ""))
        job = settlement.begin(case)
        handed_out = time.perf_counter() - begin
        job.staging.mkdir()
        outputs = []
        for role in ("mask", "preview", "snapshot"):
            (job.staging / f"{case.name}_{role}").write_bytes(b"content")
            outputs.append(Output(role, f"{case.name}_{role}", digest, 7))
        outcome = Outcome(case.name, 1, outputs=tuple(outputs), worker="host:1")
        begin = time.perf_counter()
        settlement.settle(case, job, outcome)
        seconds.append(handed_out + time.perf_counter() - begin)
    journal.close()
    lease.release()
    return seconds


def main() -> None:
    """Measure or simulate."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("measure", "simulate"))
    parser.add_argument("--journal", type=Path, help="output folder of a run")
    arguments = parser.parse_args()
    if arguments.what == "measure":
        measure(arguments.journal)
    else:
        simulate(World())


if __name__ == "__main__":
    main()
