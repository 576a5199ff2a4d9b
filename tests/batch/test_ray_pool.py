"""Actors on a cluster of two nodes: a lost node costs time and nothing else."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nestseg.batch.in_process import InProcessPool
from nestseg.batch.jobs import Job, Limits, Outcome, Settings
from nestseg.batch.read import read_view
from nestseg.batch.states import Cause, State
from nestseg_prep.dicom.references import SeriesRef
from nestseg_prep.errors import InputError

from .conftest import finish
from .hazards import HANG, KILL, SLEEP

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    # Ray's own use of what Python deprecates, and its processes that outlive the test.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

MakeImage = Callable[..., SeriesRef]
MakeJob = Callable[..., Job]


@pytest.fixture
def cluster(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes with one CPU each, which import what this process imports."""
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    monkeypatch.setenv("RAY_worker_niceness", "0")  # with 15, as by default, others starve them
    cluster = Cluster()
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
    yield cluster
    cluster.shutdown()


def test_a_lost_node_and_a_poison_case_leave_every_other_result_as_it_was(
    cluster: Any, tiny_bundle: Path, image: MakeImage, job: MakeJob
) -> None:
    from nestseg.batch.ray_pool import RayPool  # noqa: PLC0415

    settings = Settings(tiny_bundle, threads=1)
    good = [job(image("x" * n, SLEEP)) for n in range(1, 11)]
    bad = {Cause.KILLED: job(image("kills", KILL)), Cause.TIMEOUT: job(image("hangs", HANG))}
    waiting = [*good[:2], *bad.values(), *good[2:]]
    pool = RayPool(settings, Limits(timeout_s=20), address=cluster.address)
    outcomes: dict[str, Outcome] = {}
    lost_node = False
    attempts = 0
    end = time.monotonic() + 900
    try:
        pool.ready()
        while len(outcomes) < len(good) + len(bad):
            assert time.monotonic() < end
            while waiting and pool.free:
                pool.submit(waiting.pop(0))
                attempts += 1
            for outcome in pool.wait(1.0):
                # The case that hangs may be on the node that is lost, as any other.
                if outcome.cause is Cause.KILLED and outcome.name != "kills":
                    (again,) = [one for one in (*good, *bad.values()) if one.name == outcome.name]
                    waiting.append(replace(again, attempt=outcome.attempt + 1))
                else:
                    outcomes[outcome.name] = outcome
            if len(outcomes) >= 6 and not lost_node:
                cluster.remove_node(list(cluster.worker_nodes)[-1], allow_graceful=False)
                lost_node = True
    finally:
        pool.close(kill=True)
    assert lost_node
    assert {cause: outcomes.pop(one.name).cause for cause, one in bad.items()} == {
        cause: cause for cause in bad
    }
    assert attempts <= len(good) + len(bad) + 2  # what the lost node had in work
    undisturbed = finish(InProcessPool(settings), good)
    assert {name: one.outputs for name, one in outcomes.items()} == {
        name: one.outputs for name, one in undisturbed.items()
    }


def test_a_lost_node_and_a_killed_driver_change_no_result(
    cluster: Any, tiny_bundle: Path, image: MakeImage, tmp_path: Path
) -> None:
    refs = [image("x" * n, SLEEP) for n in range(1, 13)]
    folder = refs[0].files[0].parent
    command = [sys.executable, "-m", "nestseg.cli", "segment", folder, "-b", tiny_bundle]
    command += ["--trust", "-o"]
    ray = ["--engine", "ray", "--ray-address", cluster.address]
    out = tmp_path / "out"
    with subprocess.Popen([*command, out, *ray]) as driver:
        wait_for_done(out, 3)
        cluster.remove_node(list(cluster.worker_nodes)[-1], allow_graceful=False)
        wait_for_done(out, 6)
        driver.kill()
    interrupted = read_view(out)
    assert interrupted.counts[State.DONE] < len(refs)
    assert subprocess.run([*command, out, *ray], check=False).returncode == 0
    resumed = read_view(out)
    assert resumed.counts == {State.DONE: len(refs)}
    # Each disturbance cost what was in work, and no more.
    assert sum(row.attempts for row in resumed.rows) <= len(refs) + 2 + 2

    undisturbed = tmp_path / "undisturbed"
    subprocess.run([*command, undisturbed, "--workers", "0"], check=True)
    assert digests(out) == digests(undisturbed)
    assert not [path for path in out.rglob("*") if "partial" in path.name]


def wait_for_done(out: Path, number: int) -> None:
    end = time.monotonic() + 600
    while time.monotonic() < end:
        with suppress(InputError):  # no journal yet
            if read_view(out).counts.get(State.DONE, 0) >= number:
                return
        time.sleep(0.1)
    raise AssertionError(f"{number} cases were not done in time")


def digests(out: Path) -> dict[str, str]:
    """Every output's sha256, as it is recorded and as the file has it."""
    found = {}
    for row in read_view(out).rows:
        for output in row.outputs:
            assert hashlib.sha256((out / output.path).read_bytes()).hexdigest() == output.sha256
            found[output.path] = output.sha256
    return found
