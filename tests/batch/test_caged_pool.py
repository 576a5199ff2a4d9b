"""A batch with a bundle from elsewhere: what it does to its cage is one case's own affair."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from nestseg.batch.jobs import Job, Limits, Settings
from nestseg.batch.local import LocalPool
from nestseg.batch.states import Cause
from nestseg.bundle import kernel
from nestseg_prep.dicom.references import SeriesRef

from .conftest import finish
from .hazards import HANG, KILL, RAISE

pytestmark = pytest.mark.skipif(bool(kernel.unavailable()), reason="no cages here")


def test_what_happens_in_a_cage_is_blamed_on_its_case_alone(
    tiny_bundle: Path,
    image: Callable[..., SeriesRef],
    job: Callable[..., Job],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "a site that trusts nothing"))
    refs = [image("a"), image("bb", KILL), image("ccc", RAISE), image("dddd", HANG)]
    others = set(psutil.Process(os.getpid()).children(recursive=True))
    pool = LocalPool(Settings(tiny_bundle), Limits(), workers=1)
    try:
        outcomes = finish(pool, [job(ref) for ref in refs])
        processes = set(psutil.Process(os.getpid()).children(recursive=True)) - others
        assert [one for one in processes if "nestseg.bundle.cage" in one.cmdline()]
    finally:
        pool.close(kill=True)
    _, alive = psutil.wait_procs(processes, timeout=5)
    assert alive == []
    assert outcomes["a"].cause is None
    assert [output.role for output in outcomes["a"].outputs] == ["mask", "preview", "snapshot"]
    assert outcomes["bb"].cause is Cause.KILLED
    assert outcomes["bb"].reason == "the bundle's process was killed by SIGKILL"
    called = "in stage infer in the bundle's code, called at monai/transforms/"
    assert outcomes["ccc"].reason.startswith(f"KeyError {called}")
    assert outcomes["ccc"].cause is Cause.CODE
    # it starts a program
    assert outcomes["dddd"].reason.startswith(f"PermissionError {called}")
    assert outcomes["dddd"].cause is Cause.ERROR
