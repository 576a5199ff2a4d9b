"""Worker processes: what kills, hangs or swells is one case's own affair. Real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from nestseg.batch.in_process import InProcessPool
from nestseg.batch.jobs import Job, Limits, Settings
from nestseg.batch.local import LocalPool
from nestseg.batch.processes import environments
from nestseg.batch.states import Cause
from nestseg.bundle.options import SegmentOptions
from nestseg.runtime.choices import Runtime
from nestseg_prep.dicom.references import SeriesRef
from nestseg_prep.errors import InputError

from .conftest import MakePool, finish
from .hazards import ABORT, BOMB, HANG, KILL, SLEEP

MakeImage = Callable[..., SeriesRef]
MakeJob = Callable[..., Job]

TIMED = Limits(timeout_s=10)
TIGHT = Limits(memory_mb=1200)


def pid(worker: str) -> int:
    return int(worker.rpartition(":")[2])


def alive(number: int) -> bool:
    return psutil.pid_exists(number) and psutil.Process(number).status() != psutil.STATUS_ZOMBIE


def test_overlapped_cases_come_out_as_those_run_one_by_one(
    shared_pools: MakePool, tiny_bundle: Path, image: MakeImage, job: MakeJob
) -> None:
    jobs = [job(image("x" * n)) for n in range(1, 7)]
    overlapped = finish(shared_pools(TIMED), jobs)
    alone = finish(InProcessPool(Settings(tiny_bundle)), jobs)
    for name, outcome in alone.items():
        assert outcome.cause is None
        assert overlapped[name].outputs == outcome.outputs
        assert overlapped[name].worker != outcome.worker


def test_the_threads_of_torch_wait_asleep_where_openvino_computes(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def policy(runtime: Runtime) -> str | None:
        (one,) = environments(Settings(tiny_bundle, options=SegmentOptions(runtime=runtime)), 1)
        return one.get("OMP_WAIT_POLICY")

    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    there = find_spec("openvino") is not None
    assert policy("auto") == policy("openvino") == ("PASSIVE" if there else None)
    assert policy("torch") is None
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert policy("auto") == ("ACTIVE" if there else None)


@pytest.mark.slow
def test_a_poison_case_is_blamed_and_no_other(
    shared_pools: MakePool, image: MakeImage, job: MakeJob
) -> None:
    refs = [image("a"), image("bb", KILL), image("ccc"), image("dddd", ABORT), image("eeeee")]
    outcomes = finish(shared_pools(TIMED), [job(ref) for ref in refs])
    causes = {name: outcome.cause for name, outcome in outcomes.items()}
    assert causes.pop("bb") is Cause.KILLED
    assert causes.pop("dddd") is Cause.KILLED
    assert set(causes.values()) == {None}
    assert "SIGKILL" in outcomes["bb"].reason
    assert "SIGABRT" in outcomes["dddd"].reason


@pytest.mark.slow
def test_a_hung_case_takes_its_process_group_with_it(
    shared_pools: MakePool, image: MakeImage, job: MakeJob
) -> None:
    pool = shared_pools(TIMED)
    first = finish(pool, [job(image("a"))])["a"]
    hung = job(image("bb", HANG))
    pool.submit(hung)
    children: list[psutil.Process] = []
    while not children:
        assert pool.wait(0.1) == []
        children = psutil.Process(pid(first.worker)).children()
    outcomes = finish(pool, [job(image("ccc"))], submitted=1)
    assert outcomes["bb"].cause is Cause.TIMEOUT
    assert outcomes["ccc"].cause is None
    assert not alive(children[0].pid)
    assert not alive(pid(first.worker))


def test_a_file_that_never_ends_times_out(
    shared_pools: MakePool, image: MakeImage, job: MakeJob
) -> None:
    endless = image("bb")
    endless.files[0].unlink()
    os.mkfifo(endless.files[0])
    outcomes = finish(shared_pools(TIMED), [job(image("a")), job(endless), job(image("ccc"))])
    causes = {name: outcome.cause for name, outcome in outcomes.items()}
    assert causes == {"a": None, "bb": Cause.TIMEOUT, "ccc": None}


@pytest.mark.slow
def test_time_spent_waiting_for_another_case_does_not_count(
    shared_pools: MakePool, image: MakeImage, job: MakeJob
) -> None:
    refs = [image("x" * n, SLEEP) for n in range(1, 9)]  # 12 s one after the other
    outcomes = finish(shared_pools(TIMED), [job(ref) for ref in refs])
    assert {outcome.cause for outcome in outcomes.values()} == {None}


@pytest.mark.slow
def test_a_case_beyond_the_memory_fails_and_its_worker_lives_on_in_another(
    shared_pools: MakePool, image: MakeImage, job: MakeJob
) -> None:
    pool = shared_pools(TIGHT)
    refs = [image("a"), image("bb", BOMB), image("ccc")]
    outcomes = finish(pool, [job(ref) for ref in refs])
    causes = {name: outcome.cause for name, outcome in outcomes.items()}
    assert causes == {"a": None, "bb": Cause.MEMORY, "ccc": None}
    assert outcomes["a"].facts.peak_memory_mb < 1200
    again = finish(pool, [job(refs[1], attempt=2, gentle=True)])["bb"]
    assert (again.cause, again.attempt) == (Cause.MEMORY, 2)


@pytest.mark.slow
def test_a_cancelled_case_has_no_outcome(
    shared_pools: MakePool, image: MakeImage, job: MakeJob
) -> None:
    pool = shared_pools(TIMED)
    pool.submit(job(image("hangs", HANG)))
    pool.wait(0.5)
    pool.cancel("hangs")
    assert set(finish(pool, [job(image("a"))])) == {"a"}


def test_workers_leave_nothing_for_others_and_no_dump(
    shared_pools: MakePool, image: MakeImage, job: MakeJob
) -> None:
    one = job(image("a"))
    before = os.umask(0o022)
    try:
        outcome = finish(shared_pools(TIMED), [one])["a"]
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in one.staging.iterdir()}
    assert modes == {0o600}
    assert one.staging.stat().st_mode & 0o777 == 0o700
    limits = Path(f"/proc/{pid(outcome.worker)}/limits").read_text()
    (line,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert line.split()[4:6] == ["0", "0"]
    assert os.getpgid(pid(outcome.worker)) == pid(outcome.worker)


@pytest.mark.slow
def test_workers_die_with_their_parent(tiny_bundle: Path, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "from pathlib import Path\n"
        "import psutil\n"
        "from nestseg.batch.jobs import Limits, Settings\n"
        "from nestseg.batch.local import LocalPool\n"
        f"pool = LocalPool(Settings(Path({str(tiny_bundle)!r})), Limits(), 1)\n"
        "pool.ready()\n"
        "print(psutil.Process().children()[0].pid, flush=True)\n"
        "pool.wait(1000)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        assert parent.stdout
        worker = int(parent.stdout.readline())
        assert alive(worker)
        parent.kill()
    end = time.monotonic() + 5
    while alive(worker) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(worker)


@pytest.mark.slow
def test_a_limit_below_the_model_itself_is_refused(tiny_bundle: Path) -> None:
    pool = LocalPool(Settings(tiny_bundle), Limits(memory_mb=200), 1)
    try:
        with pytest.raises(InputError, match="--max-memory"):
            pool.ready()
    finally:
        pool.close(kill=True)
