"""The whole command over cases that swell, crash and hang: each ends as what it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nestseg.batch.manner import Manner
from nestseg.batch.read import read_view
from nestseg.batch.states import Cause, State
from nestseg.batch.stops import ExitCode
from nestseg.cli.segment import run as segment
from nestseg_prep.dicom.references import SeriesRef

from .hazards import BOMB, HANG, KILL


@pytest.mark.slow
def test_bad_cases_end_as_what_they_are_and_the_others_are_done(
    tiny_bundle: Path, image: Callable[..., SeriesRef], tmp_path: Path
) -> None:
    good = [image("x" * n) for n in range(1, 5)]
    for name, hazard in (("bomb", BOMB), ("kills", KILL), ("hangs", HANG)):
        image(name, hazard)
    out = tmp_path / "out"
    manner = Manner(workers=1, timeout_s=10, memory_mb=1200)
    code = segment([good[0].files[0].parent], str(tiny_bundle), out, trust=True, manner=manner)
    assert code == ExitCode.SOME_FAILED
    rows = {row.name: row for row in read_view(out).rows}
    ends = {name: (rows[name].cause, rows[name].attempts) for name in ("bomb", "kills", "hangs")}
    # Memory: once more, gently; what kills or hangs: three times.
    assert ends == {
        "bomb": (Cause.MEMORY, 2),
        "kills": (Cause.KILLED, 3),
        "hangs": (Cause.TIMEOUT, 3),
    }
    assert {rows[name].state for name in ("kills", "hangs")} == {State.QUARANTINED}
    assert {rows["x" * n].state for n in range(1, 5)} == {State.DONE}
    names = {path.name for path in out.iterdir() if path.name.endswith(".nii.gz")}
    assert names == {f"{'x' * n}_seg.nii.gz" for n in range(1, 5)}
